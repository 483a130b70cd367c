"""The singular values of what Muon orthogonalizes, read from an optimizer's state."""

from __future__ import annotations  # so that help() shows short types

from typing import Any

import jax.numpy as jnp
import numpy as np

from muon_optax._casting import wide_dtype
from muon_optax._measures import LEVELS
from muon_optax._readers import momentum, recorded_quantiles
from muon_optax.dims import FLAX, Dims, MatrixView, resolve_once
from muon_optax.polar._linalg import svd


def spectra(params: Any, state: Any, dims: Dims = FLAX) -> dict[str, tuple[np.ndarray, ...]]:
    """The singular values of what Muon orthogonalizes, matrix by matrix.

    For `plan(params, spectra=...)`, `theory.tabulate` and `theory.steps_for`. Call it outside
    `jax.jit`, every few hundred steps. Where the optimizer records, as `muon(record_every=k)`
    does, they are those of the last record, interpolated from 17 quantiles; small ones, below
    3e-4 of the largest, are rounding errors. Elsewhere they are those of the momentum, without
    Nesterov's blend, by an SVD of every matrix.

    Args:
      params: The parameters.
      state: As in `momentum`.
      dims: As for `muon`.

    Returns:
      Leaf's path → a float32 or wider array `[min(fan_in, fan_out)]` for each of its matrices,
      from the largest singular value to the smallest.

    Raises:
      ValueError: If `state` has no momentum of Muon or several, or `dims` do not fit.

    Example:
      >>> import jax.numpy as jnp
      >>> from muon_optax import muon
      >>> params = {"up": {"kernel": jnp.diag(jnp.array([1.0, 4.0])), "bias": jnp.zeros(2)}}
      >>> tx = muon(0.02, bias_correction=False, beta=0.5)
      >>> _, state = tx.update(params, tx.init(params), params)
      >>> {path: [x.tolist() for x in of] for path, of in spectra(params, state).items()}
      {'up/kernel': [[2.0, 0.5]]}

    Source: a reader of `scale_by_muon`.
    """
    found = resolve_once(dims, params).assignments
    views = {path: of_leaf.view for path, of_leaf in found.items() if of_leaf.view}
    if quantiles := recorded_quantiles(state):
        return {path: _interpolate(views[path], of) for path, of in quantiles.items()}
    return {path: _decompose(views[path], x) for path, x in momentum(state).items()}


def _interpolate(view: MatrixView, quantiles: np.ndarray) -> tuple[np.ndarray, ...]:
    """As many singular values as a matrix has, from quantiles `[batch, 17]` of a leaf's."""
    sizes = [min(m, n) for count, m, n in view.sides for _ in range(count)]
    return tuple(
        np.interp(np.linspace(1, 0, size), LEVELS, of_matrix)
        for size, of_matrix in zip(sizes, quantiles)
    )


def _decompose(view: MatrixView, x: Any) -> tuple[np.ndarray, ...]:
    """The singular values of the matrices of a leaf."""
    return tuple(
        np.asarray(sigma)
        for stack in view.to_matrices(jnp.asarray(np.asarray(x)))  # whole, on one device
        for sigma in svd(stack.astype(wide_dtype(stack.dtype)), compute_uv=False)
    )
