"""The dtype to compute in, and casts and clips that keep finite numbers finite."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array, lax
from jax.typing import DTypeLike


def wide_dtype(*dtypes: DTypeLike) -> np.dtype:
    """The smallest dtype that holds these and float32, in JAX's strict promotion mode, too.

    >>> wide_dtype("bfloat16", "float16"), wide_dtype("float64"), wide_dtype("complex64")
    (dtype('float32'), dtype('float64'), dtype('complex64'))
    """
    with jax.numpy_dtype_promotion("standard"):
        return functools.reduce(jnp.promote_types, dtypes, jnp.dtype(jnp.float32))


def saturating_cast(x: Array, dtype: DTypeLike) -> Array:
    """`x.astype(dtype)`, but a finite number beyond the dtype's largest becomes the largest."""
    if x.dtype == dtype:  # nothing to do, and on a mesh nothing that could move x
        return x
    return clip_to_finite(x, dtype, jnp.isfinite(x)).astype(dtype)


def clip_to_finite(x: Array, dtype: DTypeLike, where: Array) -> Array:
    """Clip x to the largest number of a dtype, where the booleans say so.

    `where` is true where the inputs that x was computed from are finite: there an infinity is
    an overflow. Elsewhere x keeps its NaN or infinity. Real and imaginary parts are clipped
    separately. Returns x's dtype.
    """
    if jnp.iscomplexobj(x):
        return lax.complex(
            clip_to_finite(x.real, dtype, where), clip_to_finite(x.imag, dtype, where)
        )
    largest = min(jnp.finfo(dtype).max, jnp.finfo(x.dtype).max, key=float).astype(x.dtype)
    return jnp.where(where, jnp.clip(x, -largest, largest), x)
