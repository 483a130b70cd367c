"""A whole optimizer step: ours, `optax.contrib.muon`, AdamW, and `torch.optim.Muon`.

Update and new parameters, jitted and donated, on trees of float32. Per tree and optimizer:
lines of optimised HLO, trace and compile time, temporary memory, and the time of a step, all
taking turns. PyTorch takes part where it is installed (`pip install '.[torch]'`).
"""

from collections.abc import Callable
from functools import partial
from importlib.util import find_spec

import jax
import jax.numpy as jnp
import numpy as np
import optax
from rich.progress import track

from benchmarks.compiled import compiled, size_in_bytes
from benchmarks.optimizers import apply, optimizers
from benchmarks.polar.studies import MOST, TOGETHER
from benchmarks.record import provenance, save
from benchmarks.shapes import TREES, distinct, stack, transformer
from muon_optax import NewtonSchulz, theory
from muon_optax.coefficients import JORDAN
from muon_optax.comparison._timing import milliseconds, spread, take_turns

OPTAX, TORCH = "optax.contrib.muon", "torch.optim.Muon"
TAKE_PART = (
    "muon",
    "muon, direct form",
    "muon, bfloat16",
    "muon, fast",
    "muon, fast, bfloat16",
    OPTAX,
    "optax.adamw",
    TORCH,
)

ALONE = ("muon", "muon, fast", OPTAX)  # on trees of one shape


class Running:
    """A step at work on parameters of its own, always on the same data: each call is one."""

    def __init__(self, step: Callable, tx: optax.GradientTransformation, params, data):
        self.step, self.data = step, data
        self.params = jax.tree.map(jnp.copy, params)
        self.state = tx.init(self.params)

    def __call__(self):
        self.params, self.state = self.step(self.params, self.state, self.data)
        return self.params


def measure(shapes: dict, names: tuple[str, ...]) -> dict[str, dict]:
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
    if TORCH in names and find_spec("torch"):
        from benchmarks.torch_step import torch_muon

        found[TORCH], calls[TORCH] = torch_muon(grads)
    for name, samples in take_turns(calls).items():
        found[name]["ms"] = milliseconds(samples)
    return found


def error(m: int, n: int) -> float:
    """The largest entry by which float32's polar factor is off the direct form's in float64."""
    x = jax.random.normal(jax.random.key(0), (m, n))
    method = NewtonSchulz(compute_dtype="float32")
    exact = np.asarray(x, np.float64)
    exact /= np.linalg.norm(exact)
    for a, b, c in method.schedule:
        gram = exact @ exact.T
        exact = a * exact + (b * gram + c * gram @ gram) @ exact
    return float(abs(np.asarray(method.polar(x)) - exact).max())


def main(smoke: bool = False) -> None:
    """Measure every tree; keep the results as they come."""
    made_by = provenance()
    if not find_spec("torch"):
        print(f"{TORCH} is left out; pip install -e '.[torch]' for it")
    if smoke:
        for name, cost in measure(transformer(2, 8, vocabulary=16), ("muon", OPTAX)).items():
            print(name, "| ms", spread(cost["ms"]))
        print("error", error(8, 32))
        return
    kept = {"trees": {}, "shapes": {}}
    for tree, shapes in track(TREES.items(), "optimizer steps"):
        kept["trees"][tree] = measure(shapes(), TAKE_PART)
        save("step", made_by, kept)
    for (m, n), count in track(distinct().items(), "shape by shape"):
        flops = theory.flops(JORDAN.schedule(5), m, n)
        if flops < MOST:
            count = min(count, max(1, int(TOGETHER / 4 / flops)))
            found = measure(stack(count, m, n), ALONE)
            kept["shapes"][f"{count} × ({m}×{n})"] = found | {"error": error(m, n)}
            save("step", made_by, kept)
