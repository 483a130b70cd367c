"""Knows the optimizers that are held beside each other: ours, Optax's, and ours otherwise."""

from dataclasses import dataclass
from typing import Any

import jax
import optax
from jax import Array

from muon_optax import FLAX, SVD, NewtonSchulz, dims, muon
from muon_optax.polar.newton_schulz import apply_stage
from muon_optax.polar.normalize import normalized

RATE = 1e-3


@dataclass(frozen=True)
class Unrolled:
    """Jordan's five steps one after the other, with constant coefficients."""

    def polar(self, x: Array) -> Array:
        """The same polynomial as `NewtonSchulz()`, which scans over its steps."""
        tall = x.shape[-2] > x.shape[-1]
        y = normalized(x.mT if tall else x, "frobenius", 0.0)
        for stage in NewtonSchulz().schedule:
            y = apply_stage(stage, y)
        return y.mT if tall else y


def of_optax(params: Any) -> optax.GradientTransformation:
    """`optax.contrib.muon` with the matrices that ours takes.

    Its products have XLA's default precision: TF32 on an NVIDIA GPU, where ours have float32.
    """
    views = dims.resolve(FLAX, params)
    specs = jax.tree.structure(params).unflatten([view and view.spec for view in views])
    return optax.contrib.muon(RATE, muon_weight_dimension_numbers=specs)


def optimizers(params: Any) -> dict[str, optax.GradientTransformation]:
    """The same polynomial, momentum and fallback in each, but for AdamW and the SVD; no decay.

    Args:
      params: Arrays or their shapes, of a tree that `FLAX` knows.
    """
    return {
        "muon": muon(RATE),
        "optax.contrib.muon": of_optax(params),
        "optax.adamw": optax.adamw(RATE, weight_decay=0.0),
        "muon, unrolled": muon(RATE, Unrolled()),
        "muon, bfloat16 products": muon(RATE, NewtonSchulz(compute_dtype="bfloat16")),
        "muon, SVD": muon(RATE, SVD()),
    }
