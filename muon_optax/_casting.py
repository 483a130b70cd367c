"""The dtype to compute in, and casts and clips that keep finite numbers finite."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array, lax
from jax.typing import ArrayLike, DTypeLike


def wide_dtype(*dtypes: DTypeLike) -> np.dtype:
    """Return the smallest dtype that can hold float32 and all given dtypes.

    The result does not depend on JAX's promotion mode.

    >>> wide_dtype("bfloat16", "float16"), wide_dtype("float64"), wide_dtype("complex64")
    (dtype('float32'), dtype('float64'), dtype('complex64'))
    """
    with jax.numpy_dtype_promotion("standard"):
        return functools.reduce(jnp.promote_types, dtypes, jnp.dtype(jnp.float32))


def saturating_cast(x: Array, dtype: DTypeLike) -> Array:
    """Cast like `x.astype(dtype)`, but clip finite numbers to the dtype's largest number."""
    if x.dtype == dtype:  # return x itself, so that XLA has no reason to move it on a mesh
        return x
    return clip_to_finite(x, dtype, jnp.isfinite(x)).astype(dtype)


def clip_to_finite(x: Array, dtype: DTypeLike, where: Array) -> Array:
    """Clip x to the largest number of a dtype, but only where `where` is true.

    x keeps its own dtype. Pass a `where` that is true where the inputs of x were finite: an
    infinity there is an overflow, and is clipped. Elsewhere x keeps its NaN or infinity. Real
    and imaginary parts are clipped separately.
    """
    largest = min(jnp.finfo(dtype).max, jnp.finfo(x.dtype).max, key=float)
    if jnp.iscomplexobj(x):
        real = jnp.where(where, clip(x.real, largest), x.real)
        return lax.complex(real, jnp.where(where, clip(x.imag, largest), x.imag))
    return jnp.where(where, clip(x, largest), x)


def clip(x: Array, largest: ArrayLike) -> Array:
    """Clip x to `±largest`, its real and imaginary parts separately. NaN stays NaN."""
    if jnp.iscomplexobj(x):
        return lax.complex(clip(x.real, largest), clip(x.imag, largest))
    largest = jnp.asarray(largest, x.dtype)
    return jnp.clip(x, -largest, largest)
