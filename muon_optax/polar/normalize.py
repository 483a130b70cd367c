"""Knows the upper bounds of a largest singular value by which a matrix is divided."""

from typing import Literal

import jax.numpy as jnp
from jax import Array, lax

from muon_optax.polar.arrays import product, scaled

Normalization = Literal["frobenius", "schatten4", "aol", "paper"]


def normalized(x: Array, normalize: Normalization, eps: float) -> Array:
    """A wide x over an upper bound of its largest singular value, in float32 or wider."""
    y, scale = scaled(x)
    if normalize == "paper":
        return y / jnp.maximum(scale, _frobenius(y))
    y = y / (_frobenius(y) + eps * scale)
    if normalize == "schatten4":
        return y / jnp.sqrt(_frobenius(product(y, y.mT.conj())))
    if normalize == "aol":
        rows = jnp.abs(product(y, y.mT.conj())).sum(axis=-1, keepdims=True)
        return y * lax.rsqrt(jnp.where(rows > 0, rows, 1.0))
    return y


def _frobenius(x: Array) -> Array:
    """`‖x‖_F` as `[..., 1, 1]`; 1 for the zero matrix, where it then has a gradient."""
    square = jnp.sum((x * x.conj()).real, axis=(-2, -1), keepdims=True)
    return jnp.sqrt(jnp.where(square > 0, square, 1.0))
