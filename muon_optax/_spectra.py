"""The singular values of the matrices that Muon orthogonalizes, from an optimizer's state."""

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
    """Return the singular values of each matrix that Muon orthogonalizes.

    Pass them to `plan(params, spectra=...)`, `theory.tabulate` or `theory.steps_for`. Call this
    function outside `jax.jit`, every few hundred steps. With `muon(record_every=k)`, the values
    are interpolated from the 17 quantiles of the last record. Without records, they are
    computed by one SVD of each momentum matrix. Values below 1e-6 times the largest are
    rounding errors.

    Args:
      params: The parameters.
      state: As in `momentum`.
      dims: The `dims` of the optimizer.

    Returns:
      A dict from each path to one array `[min(fan_in, fan_out)]` per matrix, in float32 or
      wider, from the largest singular value to the smallest. Before the first record, the dict
      is empty.

    Raises:
      ValueError: If `state` does not contain exactly one state of Muon, or if `dims` does not
        fit the momentum.

    Example:
      >>> import jax.numpy as jnp
      >>> from muon_optax import muon
      >>> params = {"up": {"kernel": jnp.diag(jnp.array([1.0, 4.0])), "bias": jnp.zeros(2)}}
      >>> tx = muon(0.02, bias_correction=False, beta=0.5)
      >>> _, state = tx.update(params, tx.init(params), params)
      >>> {path: [x.tolist() for x in of] for path, of in spectra(params, state).items()}
      {'up/kernel': [[2.0, 0.5]]}

    Source: the state of `scale_by_muon`.
    """
    found = resolve_once(dims, params).assignments
    views = {path: of_leaf.view for path, of_leaf in found.items() if of_leaf.view}
    recorded = recorded_quantiles(state)
    leaves = momentum(state) if recorded is None else recorded
    if unknown := [path for path in leaves if path not in views]:
        raise ValueError(
            f"`state` has a momentum for leaf {unknown[0]!r}, but this leaf is not a matrix "
            "under `dims`; pass the `dims` of the optimizer, or dims=None if every leaf is "
            "[fan_in, fan_out]"
        )
    if recorded is None:
        return {path: _decompose(views[path], x) for path, x in leaves.items()}
    return {path: _interpolate(path, views[path], of) for path, of in recorded.items()}


def _interpolate(path: str, view: MatrixView, quantiles: np.ndarray) -> tuple[np.ndarray, ...]:
    """Interpolate all singular values of a leaf's matrices from quantiles `[batch, 17]`."""
    sizes = [min(m, n) for count, m, n in view.sides for _ in range(count)]
    if len(sizes) != len(quantiles):
        raise ValueError(
            f"leaf {path!r} has {len(sizes)} matrices under `dims`, but the record has "
            f"{len(quantiles)} matrices for it; pass the `dims` of the optimizer"
        )
    return tuple(_interpolate_one(size, x) for size, x in zip(sizes, quantiles))


def _interpolate_one(size: int, quantiles: np.ndarray) -> np.ndarray:
    """Interpolate the logarithms of `size` singular values of one matrix."""
    counts = quantiles > 1e-6 * quantiles.max()
    logarithms = np.log(quantiles, where=counts, out=np.full(quantiles.shape, -1e4))
    return np.exp(np.interp(np.linspace(1, 0, size), LEVELS, logarithms))  # 0 next to a zero


def _decompose(view: MatrixView, x: Any) -> tuple[np.ndarray, ...]:
    """Compute the singular values of a leaf's matrices by SVDs."""
    return tuple(
        np.asarray(sigma)
        for stack in view.to_matrices(jnp.asarray(np.asarray(x)))  # on one device
        for sigma in svd(stack.astype(wide_dtype(stack.dtype)), compute_uv=False)
    )
