"""A whole training step of the GPT of `examples/train_gpt.py`, and the optimizer's part of it.

Forward and backward alone, and with the update of each optimizer, all taking turns.
"""

from collections.abc import Callable
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import optax
from corpus import corpus, windows
from flax import nnx
from rich.progress import track
from train_gpt import GPT, Config, cross_entropy

from benchmarks.compiled import compiled
from benchmarks.optimizers import optimizers
from benchmarks.record import provenance, save
from benchmarks.step import Running, apply
from muon_optax.comparison._timing import milliseconds, spread, take_turns

TAKE_PART = ("muon", "muon, SVD", "optax.contrib.muon", "optax.adamw")
BACKWARD = "forward and backward"
MODELS = {
    "byte GPT": Config(),
    "width 384, 6 layers": Config(width=384, layers=6, heads=6, context=256, batch=8),
}
ON_ACCELERATORS = {
    "width 768, 12 layers": Config(width=768, layers=12, heads=12, context=1024, batch=16)
}
LARGEST_DECOMPOSED = 384  # width; the SVD of all matrices of a larger model takes minutes
SMOKE = {"smallest": Config(width=16, layers=1, heads=2, context=8, batch=2)}


def calls(config: Config, names: tuple[str, ...] = TAKE_PART) -> dict[str, Callable]:
    """What takes turns: the gradient, and a step of every optimizer."""
    graph, params = nnx.split(GPT(config, nnx.Rngs(0)))
    text, _ = corpus()
    shape = (config.batch, config.context + 1)
    tokens = jnp.asarray(windows(text, np.random.default_rng(0), *shape))
    gradient = jax.grad(partial(cross_entropy, graph))

    def step(tx: optax.GradientTransformation, params, state, tokens):
        return apply(tx, params, state, gradient(params, tokens))

    found = {BACKWARD: partial(compiled(gradient, params, tokens)[0], params, tokens)}
    for name, tx in optimizers(params).items():
        large = name == "muon, SVD" and config.width > LARGEST_DECOMPOSED
        if name in names and not large:
            given = (params, jax.eval_shape(tx.init, params), tokens)
            program, _ = compiled(partial(step, tx), *given, donate=(0, 1))
            found[name] = Running(program, tx, params, tokens)
    return found


def main(smoke: bool = False) -> None:
    """Measure every model; keep the results as they come."""
    made_by = provenance()
    models = MODELS | (ON_ACCELERATORS if jax.default_backend() != "cpu" else {})
    models, names = (SMOKE, ("muon", "optax.adamw")) if smoke else (models, TAKE_PART)
    measured = {}
    for model, config in track(models.items(), "training steps"):
        samples = take_turns(calls(config, names))
        measured[model] = {
            "tokens": config.batch * config.context,
            "ms": {name: milliseconds(taken) for name, taken in samples.items()},
        }
        if not smoke:
            save("train_step", made_by, {"models": measured})
    if not smoke:
        return  # the tables are shown
    for model, found in measured.items():
        for name, samples in found["ms"].items():
            print(model, "|", name, "| ms", spread(samples))
