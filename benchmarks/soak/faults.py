"""What is wrong with the gradients of which step: a function of its number alone."""

import math
from collections import Counter
from typing import NamedTuple

import jax.numpy as jnp
import numpy as np
from jax import Array

from benchmarks.soak.model import LEAVES

SEED = 203  # with which sixty steps, for a test, have all that is skipped
ONE_IN = 50  # steps
KINDS = {"NaN": math.nan, "infinity": math.inf, "zero": 0.0, "times 1e30": 1e30}
# Rarely 1e30, after which a momentum has no other direction for 1300 steps.
SHARES = [0.4, 0.4, 0.15, 0.05]
# A part is what can be hit alone: a matrix, or a leaf of the fallback. Leaf after leaf.
PARTS = [name for name, leaf in LEAVES.items() for _ in range(leaf.matrices or 1)]
IS_MATRIX = np.array([LEAVES[name].matrices > 0 for name in PARTS])
PLACES = {
    "one matrix": IS_MATRIX,
    "one expert": np.isin(PARTS, ["up", "down"]),
    "a leaf of the fallback": ~IS_MATRIX,
    "everywhere": None,
}


class Fault(NamedTuple):
    """What happens to a step's gradients.

    A finite factor scales all of a part, another one is put into one entry of it.
    """

    kind: str
    place: str
    factors: np.ndarray  # [parts] float32, 1 for what is left as it is


def fault(step: int) -> Fault:
    """The fault of a step; of no kind at most steps."""
    rng = np.random.default_rng([SEED, step])
    factors = np.ones(len(PARTS), np.float32)
    if rng.integers(ONE_IN):
        return Fault("", "", factors)
    kind, place = rng.choice([*KINDS], p=SHARES), rng.choice([*PLACES])
    among = PLACES[place]
    factors[... if among is None else rng.choice(np.flatnonzero(among))] = KINDS[kind]
    return Fault(str(kind), str(place), factors)


def spoil(grads: dict[str, Array], factors: Array) -> dict[str, Array]:
    """The gradients of a step with this fault."""

    def spoiled(name: str, g: Array) -> Array:
        leaf, first = LEAVES[name], PARTS.index(name)
        batch = leaf.shape[:-2] if leaf.matrices else ()
        one = leaf.shape[len(batch) :]
        factor = factors[first : first + math.prod(batch)]
        factor = factor.reshape(batch + (1,) * len(one))
        last = jnp.arange(math.prod(one)).reshape(one) == math.prod(one) - 1
        return jnp.where(jnp.isfinite(factor) | last, factor * g, g).astype(g.dtype)

    return {name: spoiled(name, g) for name, g in grads.items()}


def count(steps: int) -> dict:
    """Faults by kind and place, and what an optimizer has to skip in so many steps."""
    kinds, places, matrices, fallback = Counter(), Counter(), 0, 0
    for step in range(steps):
        kind, place, factors = fault(step)
        if kind:
            kinds[kind] += 1
            places[place] += 1
            bad = ~np.isfinite(factors)
            matrices += int(bad[IS_MATRIX].sum())
            fallback += bool(bad[~IS_MATRIX].any())
    skipped = {"matrices": matrices, "fallback": fallback}
    return {"kinds": dict(kinds), "places": dict(places), "skipped": skipped}
