"""Muon+: after the polar step, scale every output of an update to norm 1, then every input."""

from __future__ import annotations  # so that help() shows short types

from functools import partial

import jax.numpy as jnp
import optax
from jax import Array
from jax.typing import ArrayLike

from muon_optax._checks import check_traceable
from muon_optax.dims import Dims
from muon_optax.polar._linalg import normalize
from muon_optax.transforms._by_leaf import map_stacks, transform_leaves


def normalize_sides(
    eps: ArrayLike = 1e-7, *, dims: Dims = None
) -> optax.GradientTransformationExtraArgs:
    """Normalize the update of each output's weights, then of each input's weights (Muon+).

    Both normalizations are `u ← u/√(‖u‖² + ε)`. Chain this transformation between
    `scale_by_muon` and `scale_by_shape`. The Frobenius norm of an update becomes √fan_in, while
    that of a polar factor is √min(fan_in, fan_out). So if fan_in > fan_out, the update is
    √(fan_in/fan_out) times as large as under `muon`.

    Args:
      eps: ε > 0.
      dims: Which leaves are matrices, and along which axes; see `muon_optax.dims`.

    Returns:
      A stateless transformation; updates keep their dtype.

    Raises:
      ValueError: If `eps` is out of its range; at `init` and `update`, if a leaf is not a
        matrix under `dims`.

    Example:
      >>> tx = normalize_sides()
      >>> u = {"w": jnp.diag(jnp.array([0.7, 1.2]))}
      >>> tx.update(u, tx.init(u))[0]["w"].diagonal().round(3).tolist()
      [1.0, 1.0]

    Source: Zhang et al. 2026, arXiv 2602.21545 (Muon+), in the order "row, then column" of
    PyTorch's weights `[fan_out, fan_in]`.
    """
    check_traceable("eps", eps, "a number > 0", lambda e: e > 0)
    normalize_stack = partial(_normalize_stack, eps)
    return transform_leaves(partial(map_stacks, normalize_stack), dims)


def _normalize_stack(eps: ArrayLike, u: Array) -> Array:
    for axis in (-2, -1):  # of `[batch, fan_in, fan_out]`
        u, norm = normalize(u, (axis,))
        u = u * (norm / jnp.hypot(norm, jnp.sqrt(jnp.asarray(eps, norm.dtype)))).astype(u.dtype)
    return u
