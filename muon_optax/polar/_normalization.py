"""Upper bounds of a matrix's largest singular value, all computed from its Gram matrix."""

from typing import Literal

import jax.numpy as jnp
from jax import Array

from muon_optax.polar._linalg import svd

Normalization = Literal["frobenius", "schatten4", "aol", "spectral", "paper"]


def norm_bound(gram: Array, normalize: Normalization, scale: Array, eps: float) -> Array:
    """The divisor of the rows of y that brings every singular value to at most 1.

    `gram = y·yᴴ: [..., m, m]` in float32 or wider, for `y = scale·x`; `eps` has the unit of x.
    Returns `[..., m, 1]` under `"aol"`, else `[..., 1, 1]`; 1 where y is zero.
    """
    if normalize == "aol":
        return jnp.sqrt(_positive(jnp.abs(gram).sum(-1, keepdims=True)))
    if normalize == "schatten4":
        square = jnp.sum((gram * gram.conj()).real, (-2, -1), keepdims=True)
        return jnp.sqrt(jnp.sqrt(_positive(square)))
    if normalize == "spectral":
        return jnp.sqrt(_positive(svd(gram, compute_uv=False)[..., :1, None])) + eps * scale
    trace = jnp.diagonal(gram, axis1=-2, axis2=-1).real.sum(-1)[..., None, None]
    frobenius = jnp.sqrt(_positive(trace))
    return jnp.maximum(scale, frobenius) if normalize == "paper" else frobenius + eps * scale


def _positive(x: Array) -> Array:
    """`x` with 1 in place of 0, so that its root has a gradient, and tiny sums raised."""
    info = jnp.finfo(x.dtype)
    return jnp.where(x > 0, jnp.maximum(x, info.tiny / info.eps), 1)
