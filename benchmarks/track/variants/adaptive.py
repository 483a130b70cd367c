"""AdaMuon: one second moment for each entry, so that all of them move by the same amount."""

from __future__ import annotations  # so that help() shows short types

from functools import partial
from typing import Any, NamedTuple

import jax.numpy as jnp
import optax
from jax import Array
from jax.typing import ArrayLike

from muon_optax._casting import wide_dtype
from muon_optax._checks import check_traceable
from muon_optax.batching import gather_explicit, scatter_like
from muon_optax.dims import Dims, MatrixView
from muon_optax.transforms._by_leaf import scale_by_moments
from muon_optax.transforms._normuon import divide_by_rms, restore_norm


class EntryState(NamedTuple):
    """The state of `scale_by_entry_rms`: `nu`, the mean square of every entry's update."""

    nu: Any


def scale_by_entry_rms(
    b2: ArrayLike = 0.95, eps: ArrayLike = 1e-8, *, dims: Dims = None
) -> optax.GradientTransformationExtraArgs:
    """Divide every entry of an update by its root mean square; keep the matrix's norm.

    `v ← β₂·v + (1-β₂)·O²`, `O' = O/(√v + ε)`, then `O'·‖O‖_F/‖O'‖_F`. Chain it between
    `scale_by_muon` and `scale_by_shape`. A bias correction of v would cancel.

    Args:
      b2: β₂ in [0, 1), the decay of the second moment.
      eps: ε > 0.
      dims: Which leaf is a matrix and along which axes; see `muon_optax.dims`.

    Returns:
      A transformation whose state is an `EntryState`, as large as float32 parameters; updates
      keep their dtype.

    Raises:
      ValueError: If an argument is out of its range, or a leaf is not a matrix under `dims`.

    Example:
      >>> tx, o = scale_by_entry_rms(), jnp.diag(jnp.array([1.0, 7.0]))
      >>> tx.update(o, tx.init(o))[0].diagonal().round(3).tolist()
      [5.0, 5.0]

    Source: Si et al. 2025, arXiv 2507.11005 (AdaMuon): there O is polar(sign(μ)), and the norm
    0.2·√(fan_in·fan_out), as `scale_by_shape("adam_rms")` makes it where O is orthogonal.
    """
    check_traceable("b2", b2, "a number in [0, 1)", lambda b: 0 <= b < 1)
    check_traceable("eps", eps, "a number > 0", lambda e: e > 0)
    scale_leaf = partial(_scale_leaf, b2=b2, eps=eps)
    return scale_by_moments(EntryState, _zeros, scale_leaf, dims)


def _zeros(param: Array, view: MatrixView) -> Array:
    del view
    return jnp.zeros_like(param, dtype=jnp.float32)


def _scale_leaf(
    x: Array, nu: Array, view: MatrixView, b2: ArrayLike, eps: ArrayLike
) -> tuple[Array, Array]:
    o = x.astype(wide_dtype(x.dtype))
    scaled, nu = divide_by_rms(o, jnp.abs(o) ** 2, nu, b2, eps)
    pairs = zip(*(view.to_matrices(gather_explicit(y)) for y in (scaled, x)))
    restored = [restore_norm(*pair) for pair in pairs]
    return scatter_like(view.from_matrices(restored, x.shape), x), nu
