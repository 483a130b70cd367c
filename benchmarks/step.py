"""A whole optimizer step: ours beside `optax.contrib.muon`, AdamW, and `torch.optim.Muon`.

Update and new parameters, jitted and donated, on trees of float32. Per tree and optimizer:
lines of optimised HLO, trace and compile time, temporary memory, and the time of a step, all
taking turns. PyTorch takes part where it is installed (`pip install '.[torch]'`).
"""

from collections.abc import Callable
from functools import partial
from importlib.util import find_spec

import jax
import jax.numpy as jnp
import optax
from rich.progress import track

from benchmarks.compiled import compiled, size_in_bytes
from benchmarks.optimizers import optimizers
from benchmarks.record import provenance, save
from benchmarks.shapes import SMALLEST, TREES
from benchmarks.timing import milliseconds, spread, take_turns

TAKE_PART = (
    "muon",
    "muon, unrolled",
    "muon, bfloat16 products",
    "optax.contrib.muon",
    "optax.adamw",
)

TORCH = "torch.optim.Muon"


class Running:
    """A step at work on parameters of its own, always on the same data: each call is one."""

    def __init__(self, step: Callable, tx: optax.GradientTransformation, params, data):
        self.step, self.data = step, data
        self.params = jax.tree.map(jnp.copy, params)
        self.state = tx.init(self.params)

    def __call__(self):
        self.params, self.state = self.step(self.params, self.state, self.data)
        return self.params


def apply(tx: optax.GradientTransformation, params, state, grads):
    """What is compiled: the update, and the parameters after it."""
    updates, state = tx.update(grads, state, params)
    return optax.apply_updates(params, updates), state


def measure(shapes: dict, names: tuple[str, ...] = TAKE_PART) -> dict[str, dict]:
    """Optimizer → static costs, and milliseconds of every sample."""
    leaves, treedef = jax.tree.flatten(shapes)
    keys = jax.random.split(jax.random.key(0), len(leaves))
    grads = treedef.unflatten([jax.random.normal(k, x.shape) for k, x in zip(keys, leaves)])
    found, calls = {}, {}
    for name, tx in optimizers(shapes).items():
        if name in names:
            state = jax.eval_shape(tx.init, shapes)
            step, costs = compiled(partial(apply, tx), shapes, state, shapes, donate=(0, 1))
            temporary = costs.pop("temp_bytes") / size_in_bytes(shapes)
            found[name] = costs | {"temp_over_parameters": round(temporary, 3)}
            calls[name] = Running(step, tx, grads, grads)
    if find_spec("torch"):
        from benchmarks.torch_step import torch_muon

        found[TORCH], calls[TORCH] = torch_muon(grads)
    for name, samples in take_turns(calls).items():
        found[name]["ms"] = milliseconds(samples)
    return found


def main(smoke: bool = False) -> None:
    """Measure every tree; keep the results as they come."""
    made_by = provenance()
    if not find_spec("torch"):
        print(f"{TORCH} is left out; pip install -e '.[torch]' for it")
    trees = {}
    chosen, names = (SMALLEST, ("muon", "optax.adamw")) if smoke else (TREES, TAKE_PART)
    for tree, shapes in track(chosen.items(), "optimizer steps"):
        trees[tree] = measure(shapes(), names)
        if not smoke:
            save("step", made_by, {"trees": trees})
    if not smoke:
        return  # the tables are shown
    for tree, found in trees.items():
        for name, cost in found.items():
            print(tree, "|", name, "| ms", spread(cost["ms"]))
