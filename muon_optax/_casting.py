"""The dtype for computations, and casts and clips that keep finite numbers finite."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array, lax
from jax.typing import ArrayLike, DTypeLike


def wide_dtype(*dtypes: DTypeLike) -> np.dtype:
    """The smallest dtype that holds these dtypes and float32, under any promotion mode of JAX.

    >>> wide_dtype("bfloat16", "float16"), wide_dtype("float64"), wide_dtype("complex64")
    (dtype('float32'), dtype('float64'), dtype('complex64'))
    """
    with jax.numpy_dtype_promotion("standard"):
        return functools.reduce(jnp.promote_types, dtypes, jnp.dtype(jnp.float32))


def saturating_cast(x: Array, dtype: DTypeLike) -> Array:
    """`x.astype(dtype)`, with finite numbers clipped to the dtype's largest."""
    if x.dtype == dtype:  # return x itself, so that XLA has no reason to move it on a mesh
        return x
    return clip_to_finite(x, dtype, jnp.isfinite(x)).astype(dtype)


def clip_to_finite(x: Array, dtype: DTypeLike, where: Array) -> Array:
    """Clip x to the largest number of a dtype where `where` is true; the dtype of x stays.

    Pass as `where` whether the inputs of x were finite. An infinity is then an overflow, and
    elsewhere x keeps its NaN or infinity. Real and imaginary parts are clipped separately.
    """
    largest = min(jnp.finfo(dtype).max, jnp.finfo(x.dtype).max, key=float)
    if jnp.iscomplexobj(x):
        real = jnp.where(where, clip(x.real, largest), x.real)
        return lax.complex(real, jnp.where(where, clip(x.imag, largest), x.imag))
    return jnp.where(where, clip(x, largest), x)


def clip(x: Array, largest: ArrayLike) -> Array:
    """Clip to `±largest`, real and imaginary parts separately. NaN stays NaN."""
    if jnp.iscomplexobj(x):
        return lax.complex(clip(x.real, largest), clip(x.imag, largest))
    largest = jnp.asarray(largest, x.dtype)
    return jnp.clip(x, -largest, largest)
