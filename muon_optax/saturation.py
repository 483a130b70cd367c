"""Knows how numbers stay below the largest of a dtype."""

import jax.numpy as jnp
from jax import Array, lax
from jax.typing import DTypeLike


def saturated(x: Array, dtype: DTypeLike, where: Array) -> Array:
    """The numbers of x, or the largest of a dtype for those beyond it.

    Args:
      x: Any array of floats.
      dtype: A float dtype.
      where: Of booleans: where what x was made of is finite. Elsewhere x is left as it is.

    Returns:
      x's shape, and its dtype.
    """
    if jnp.iscomplexobj(x):
        return lax.complex(saturated(x.real, dtype, where), saturated(x.imag, dtype, where))
    largest = min(jnp.finfo(dtype).max, jnp.finfo(x.dtype).max, key=float).astype(x.dtype)
    return jnp.where(where, jnp.clip(x, -largest, largest), x)


def narrowed(x: Array, dtype: DTypeLike) -> Array:
    """`x` in another dtype, where what is finite stays so.

    Args:
      x: Any array of floats.
      dtype: A float dtype, of complex numbers for such.

    Returns:
      x's shape.
    """
    if x.dtype == dtype:  # and leave alone where on a mesh it lies
        return x
    return saturated(x, dtype, jnp.isfinite(x)).astype(dtype)
