"""Muon+: the neurons that few steps of Newton-Schulz leave unequal become equal."""

from __future__ import annotations  # so that help() shows short types

from functools import partial

import jax.numpy as jnp
import optax
from jax import Array

from muon_optax._checks import check_number
from muon_optax.dims import Dims
from muon_optax.polar._linalg import normalize
from muon_optax.transforms._by_leaf import map_stacks, transform_leaves


def normalize_neurons(
    eps: float = 1e-7, *, dims: Dims = None
) -> optax.GradientTransformationExtraArgs:
    """Give the update's weights of every output norm 1, then those of every input.

    `u ← u/√(‖u‖² + ε)`, twice. The Frobenius norm of a matrix becomes √fan_in; that of a
    polar factor is √min(fan_in, fan_out). Chain it between `scale_by_muon` and
    `scale_by_shape`.

    Args:
      eps: ε > 0. Norms far below √ε stay small.
      dims: Which leaf is a matrix and along which axes; see `muon_optax.dims`.

    Returns:
      A stateless transformation; updates keep their dtype.

    Raises:
      ValueError: If `eps` is out of its range; at `init` and `update`, if a leaf is not a
        matrix under `dims`.

    Example:
      >>> tx = normalize_neurons()
      >>> u = {"w": jnp.diag(jnp.array([0.7, 1.2]))}
      >>> tx.update(u, tx.init(u))[0]["w"].diagonal().round(3).tolist()
      [1.0, 1.0]

    Source: Zhang et al. 2026, arXiv 2602.21545 (Muon+), with its default norm: "row, then
    column" of PyTorch's weights `[fan_out, fan_in]`.
    """
    check_number("eps", eps, "a number > 0", lambda e: e > 0)
    normalize_stack = partial(_normalize_stack, eps)
    return transform_leaves(partial(map_stacks, normalize_stack), dims)


def _normalize_stack(eps: float, u: Array) -> Array:
    for axis in (-2, -1):  # of `[batch, fan_in, fan_out]`
        u, norm = normalize(u, (axis,))
        u = u * (norm / jnp.hypot(norm, eps**0.5)).astype(u.dtype)
    return u
