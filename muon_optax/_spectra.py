"""The singular values of Muon's momentum, read from an optimizer's state."""

from __future__ import annotations  # so that help() shows short types

from typing import Any

import jax.numpy as jnp
import numpy as np

from muon_optax._casting import wide_dtype
from muon_optax._readers import momentum
from muon_optax.dims import FLAX, Dims, resolve_once
from muon_optax.polar._linalg import svd


def spectra(params: Any, state: Any, dims: Dims = FLAX) -> dict[str, tuple[np.ndarray, ...]]:
    """The singular values of Muon's momentum, matrix by matrix.

    With Nesterov's step the blend with the newest gradient is orthogonalized; its spectrum is
    another one, a little. For `plan(params, spectra=...)`, `theory.tabulate` and
    `theory.steps_for`. Call it outside `jax.jit`, every few hundred steps: it takes an SVD of
    every matrix.

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
    views = {path: found.view for path, found in resolve_once(dims, params).assignments.items()}
    return {
        path: tuple(
            np.asarray(sigma)
            for stack in view.to_matrices(jnp.asarray(np.asarray(x)))  # whole, on one device
            for sigma in svd(stack.astype(wide_dtype(stack.dtype)), compute_uv=False)
        )
        for path, x in momentum(state).items()
        if (view := views.get(path))
    }
