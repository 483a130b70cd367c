"""The optimizers that are compared: ours, Optax's, and variants of ours."""

from dataclasses import replace
from typing import Any

import jax
import optax

from muon_optax import FLAX, METHODS, SVD, NewtonSchulz, dims, muon

RATE = 1e-3


def of_optax(params: Any) -> optax.GradientTransformation:
    """`optax.contrib.muon` with the matrices that ours takes.

    Its products have XLA's default precision: TF32 on an NVIDIA GPU, where ours have float32.
    """
    specs = [
        view and dims.MuonDimensionNumbers(view.reduction, view.output)
        for view in dims.resolve(FLAX, params)
    ]
    tree = jax.tree.structure(params).unflatten(specs)
    return optax.contrib.muon(RATE, muon_weight_dimension_numbers=tree)


def optimizers(params: Any) -> dict[str, optax.GradientTransformation]:
    """The same momentum and fallback in each, and Jordan's five steps if the name says nothing.

    Args:
      params: Arrays or their shapes, of a tree that `FLAX` knows.
    """
    return {
        "muon": muon(RATE),
        "optax.contrib.muon": of_optax(params),
        "optax.adamw": optax.adamw(RATE, weight_decay=0.0),
        "muon, direct form": muon(RATE, NewtonSchulz(form="direct")),
        "muon, bfloat16": muon(RATE, NewtonSchulz(compute_dtype="bfloat16")),
        "muon, fast": muon(RATE, METHODS["fast"]),
        "muon, fast, bfloat16": muon(RATE, replace(METHODS["fast"], compute_dtype="bfloat16")),
        "muon, SVD": muon(RATE, SVD()),
    }


def apply(
    tx: optax.GradientTransformation, params: Any, state: Any, grads: Any
) -> tuple[Any, Any]:
    """What is compiled: the parameters after an update, and the state."""
    updates, state = tx.update(grads, state, params)
    return optax.apply_updates(params, updates), state
