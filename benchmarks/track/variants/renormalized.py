"""Muon+: the update is normalized once more after the polar step."""

from __future__ import annotations  # so that help() shows short types

import math
from functools import partial
from typing import Any

import jax.numpy as jnp
import optax
from jax import Array

from benchmarks.track.variants._matrices import map_matrices, normalize
from muon_optax._checks import check_choice, check_number
from muon_optax.dims import Dims, matrix_views

# The axes of each pass, in stacks `[batch, fan_in, fan_out]`.
_PASSES = {
    "matrix": [(-2, -1)],
    "outputs": [(-2,)],
    "inputs": [(-1,)],
    "outputs_inputs": [(-2,), (-1,)],
    "inputs_outputs": [(-1,), (-2,)],
}


def renormalize_updates(
    norm: str = "matrix", eps: float = 1e-7, *, dims: Dims = None
) -> optax.GradientTransformationExtraArgs:
    """Give orthogonal updates the norms that few steps of Newton-Schulz leave inexact.

    `u ← t·u/√(‖u‖² + ε)`. Chain it between `scale_by_muon` and `scale_by_shape`.

    Args:
      norm: Over what. `"matrix"`: the Frobenius norm becomes `t = √min(fan_in, fan_out)`, that
        of a full-rank polar factor; the singular values of a matrix of lower rank become
        larger than 1. `"outputs"`: the weights of each output get norm `t = 1`; `"inputs"`:
        those of each input. `"outputs_inputs"` and `"inputs_outputs"`: one, then the other.
      eps: ε > 0. Norms far below √ε stay small.
      dims: Which leaf is a matrix and along which axes; see `muon_optax.dims`.

    Returns:
      A stateless transformation; updates keep their dtype.

    Raises:
      ValueError: If an argument is out of its range; at `init` and `update`, if a leaf is not
        a matrix under `dims`.

    Example:
      >>> tx = renormalize_updates()
      >>> u = {"w": jnp.diag(jnp.array([0.75, 0.75]))}
      >>> tx.update(u, tx.init(u))[0]["w"].diagonal().round(3).tolist()
      [1.0, 1.0]

    Source: Zhang et al. 2026, arXiv 2602.21545 (Muon+), with the four norms of rows and
    columns: its rows are our outputs. `"matrix"` is nanochat's, which names the same paper.
    """
    check_choice("norm", norm, _PASSES)
    check_number("eps", eps, "a number > 0", lambda e: e > 0)

    def init(params: optax.Params) -> optax.EmptyState:
        matrix_views(dims, params)
        return optax.EmptyState()

    def update(
        updates: optax.Updates, state: Any, params: Any = None, **extra_args: Any
    ) -> tuple[optax.Updates, Any]:
        del params, extra_args
        return map_matrices(partial(_renormalize, norm, eps), dims, updates), state

    return optax.GradientTransformationExtraArgs(init, update)


def _renormalize(norm: str, eps: float, u: Array) -> Array:
    target = math.sqrt(min(u.shape[-2:])) if norm == "matrix" else 1.0
    for axes in _PASSES[norm]:
        u, length = normalize(u, axes)
        u = u * (target * length / jnp.hypot(length, math.sqrt(eps))).astype(u.dtype)
    return u
