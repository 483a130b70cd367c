"""Knows the arithmetic that all polar methods share: the exact scale and the product."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from jax import Array, lax

from muon_optax.checks import LeafError, check_float_array


def check_matrix(x: Array) -> None:
    """Refuse what is no batch of matrices `[..., m, n]` of floats."""
    check_float_array("", x)
    if x.ndim < 2:
        raise LeafError("", x, "a polar factor needs at least two axes, [..., m, n]")


def scaled(x: Array) -> tuple[Array, Array]:
    """`x·s` in float32 or wider, and the power of two s that brings max|x| into [2, 4)."""
    # That interval, because s is then a normal number for every normal max|x|. What does
    # not depend on the scale of x has no derivative by s, hence stop_gradient.
    x = x.astype(jnp.promote_types(x.dtype, jnp.float32))
    parts = jnp.maximum(jnp.abs(x.real), jnp.abs(x.imag)) if jnp.iscomplexobj(x) else jnp.abs(x)
    largest = parts.max(axis=(-2, -1), keepdims=True)
    _, exponent = jnp.frexp(lax.stop_gradient(largest))
    exponent = jnp.maximum(exponent, jnp.finfo(largest.dtype).minexp + 1)
    scale = jnp.ldexp(jnp.ones_like(largest), 2 - exponent)
    return x * scale, scale


def where_finite(function: Callable[[Array], Any], x: Array) -> Any:
    """`function(x)`, but NaN for every matrix of x that has an entry that is not finite."""
    # LAPACK's SVD of a matrix with an infinity may never return (OpenBLAS 0.3.30).
    finite = jnp.isfinite(x).all((-2, -1))

    def masked(y: Array) -> Array:
        return jnp.where(
            finite.reshape(finite.shape + (1,) * (y.ndim - finite.ndim)), y, jnp.nan
        )

    return jax.tree.map(masked, function(jnp.where(finite[..., None, None], x, 0.0)))


def product(a: Array, b: Array) -> Array:
    """`a @ b`, accumulated and returned in float32 or wider, never in TF32."""
    wide = jnp.promote_types(a.dtype, jnp.float32)
    return jnp.matmul(a, b, precision=lax.Precision.HIGHEST, preferred_element_type=wide)
