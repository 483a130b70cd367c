"""Muon+ of whole matrices: the update is normalized once more after the polar step."""

from __future__ import annotations  # so that help() shows short types

import math
from functools import partial

import optax
from jax import Array

from muon_optax.dims import Dims
from muon_optax.polar._linalg import normalize
from muon_optax.transforms._by_leaf import map_stacks, transform_leaves


def renormalize_updates(*, dims: Dims = None) -> optax.GradientTransformationExtraArgs:
    """Give updates the norm of a full-rank polar factor, `‖u‖_F = √min(fan_in, fan_out)`.

    Chain it between `scale_by_muon` and `scale_by_shape`. The singular values of a matrix of
    lower rank become larger than 1.

    Args:
      dims: Which leaf is a matrix and along which axes; see `muon_optax.dims`.

    Returns:
      A stateless transformation; updates keep their dtype.

    Raises:
      ValueError: At `init` and `update`, if a leaf is not a matrix under `dims`.

    Example:
      >>> tx = renormalize_updates()
      >>> import jax.numpy as jnp
      >>> u = {"w": jnp.diag(jnp.array([0.75, 0.75]))}
      >>> tx.update(u, tx.init(u))[0]["w"].diagonal().round(3).tolist()
      [1.0, 1.0]

    Source: nanochat, which names Zhang et al. 2026, arXiv 2602.21545 (Muon+). The norms of
    rows and columns that its authors have are `muon_optax.normalize_sides`.
    """
    return transform_leaves(partial(map_stacks, _renormalize), dims)


def _renormalize(u: Array) -> Array:
    return math.sqrt(min(u.shape[-2:])) * normalize(u)[0]
