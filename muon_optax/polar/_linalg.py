"""Arithmetic of the polar methods: the exact scale, the product, the SVD."""

import math
from collections.abc import Callable
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
from jax import Array, lax
from jax.typing import DTypeLike

from muon_optax._casting import wide_dtype
from muon_optax._leaves import LeafError, check_float_array
from muon_optax._platform import Platform


def check_matrix(x: Array) -> None:
    """Refuse anything but a batch of matrices `[..., m, n]` of floats."""
    check_float_array("", x)
    if x.ndim < 2:
        raise LeafError("", x, "a polar factor needs at least two axes, [..., m, n]")


def scale_to_range(
    x: Array, reduce: Callable[[Array], Array] = lambda largest: largest
) -> tuple[Array, Array]:
    """Return `x·s`, in float32 or wider, and the power of two s that brings max|x| into [2, 4).

    `reduce` takes the maximum over devices that share a matrix.
    """
    x = x.astype(wide_dtype(x.dtype))
    scale = find_scale(reduce(find_largest(x).max(-1)[..., None, None]))
    return x * scale.astype(x.dtype), scale


def find_largest(x: Array) -> Array:
    """Return each row's `max|x|` over real and imaginary parts, in float32 or wider."""
    # The maximum is by rows and has no initial value, so XLA fuses it into the pass that writes
    # x. The result of a method does not depend on the scale, so the scale needs no gradient.
    return lax.stop_gradient(_sizes(x).max(axis=-1))


def _sizes(x: Array) -> Array:
    """Return the larger absolute value of each entry's real and imaginary parts."""
    x = x.astype(wide_dtype(x.dtype))
    return jnp.maximum(jnp.abs(x.real), jnp.abs(x.imag)) if jnp.iscomplexobj(x) else jnp.abs(x)


def find_scale(largest: Array, halvings: int = 0) -> Array:
    """Return the power of two that brings a number into [2, 4), divided by 2^halvings.

    The result is clipped to the range of normal numbers.
    """
    _, exponent = jnp.frexp(largest)
    info = jnp.finfo(largest.dtype)
    exponent = jnp.clip(2 - halvings - exponent, info.minexp, 1 - info.minexp)
    return jnp.ldexp(jnp.ones_like(largest), exponent)


def normalize(x: Array, axes: tuple[int, ...] = (-2, -1)) -> tuple[Array, Array]:
    """Return `x/‖x‖` and `‖x‖`, the norm over some axes, in float32 or wider; 0 stays 0.

    Squares neither overflow nor underflow. The norm is clipped to the largest number.
    """
    x = x.astype(wide_dtype(x.dtype))
    largest = _sizes(x).max(axes, keepdims=True, initial=0)
    scale = find_scale(lax.stop_gradient(largest))
    y = x * scale.astype(x.dtype)
    norm = jnp.sqrt(jnp.sum((y * y.conj()).real, axes, keepdims=True))
    unit = y / jnp.where(norm == 0, 1, norm).astype(x.dtype)
    return unit, jnp.minimum(norm / scale, jnp.finfo(norm.dtype).max)


def product(
    a: Array, b: Array, dtype: DTypeLike | None = None, platform: Platform = "cpu"
) -> Array:
    """Return `a @ b`, summed in float32 or wider (never TF32), then rounded to `dtype`."""
    return _contract(a, b, 1, 0, dtype, platform)


def gram_matrix(x: Array, tall: bool, dtype: DTypeLike | None, platform: Platform) -> Array:
    """Return `x·xᴴ`, or `xᴴ·x` if x is tall."""
    if tall:
        return _contract(x.conj(), x, 0, 0, dtype, platform)
    return _contract(x, x.conj(), 1, 1, dtype, platform)


def multiply_short_side(
    q: Array, x: Array, tall: bool, dtype: DTypeLike | None, platform: Platform
) -> Array:
    """Return `q·x`, or `x·q` if x is tall."""
    return product(x, q, dtype, platform) if tall else product(q, x, dtype, platform)


def _contract(
    a: Array, b: Array, axis_a: int, axis_b: int, dtype: DTypeLike | None, platform: Platform
) -> Array:
    """Return the batched product, summed over the rows (axis 0) or the columns (1) of each."""
    wide = wide_dtype(a.dtype)
    if platform == "cpu":
        # The cast changes no number. On a CPU, XLA (jax 0.7 to 0.12) cannot run a transposed
        # product of bfloat16 matrices into float32.
        a, b = a.astype(wide), b.astype(wide)
    batch = tuple(range(a.ndim - 2))
    found = lax.dot_general(
        a,
        b,
        (((a.ndim - 2 + axis_a,), (b.ndim - 2 + axis_b,)), (batch, batch)),
        # Half precision gains nothing from a precision above the default.
        precision=lax.Precision.HIGHEST if a.dtype == wide else None,
        # A TPU sums in float32 in any case, and fuses products whose results are bfloat16.
        preferred_element_type=dtype if platform == "tpu" and dtype == "bfloat16" else wide,
    )
    return found.astype(dtype or wide)


@partial(jax.jit, static_argnames="compute_uv")  # so that eager calls compile the loop once
def svd(x: Array, compute_uv: bool = True) -> Any:
    """Return `jnp.linalg.svd` without full matrices, or NaN for a matrix that is not finite."""
    # LAPACK's SVD of a matrix with an infinity may never return (OpenBLAS 0.3.30). XLA's
    # batched call, which is sequential on a CPU, has hung with two threads (jaxlib 0.10.2).
    decompose = partial(jnp.linalg.svd, full_matrices=False, compute_uv=compute_uv)
    finite = jnp.isfinite(x).all((-2, -1), keepdims=True)
    stack = jnp.where(finite, x, 0).reshape(math.prod(x.shape[:-2]), *x.shape[-2:])
    parts = lax.platform_dependent(stack, cpu=partial(lax.map, decompose), default=decompose)

    def masked(part: Array) -> Array:
        part = part.reshape(*x.shape[:-2], *part.shape[1:])
        return jnp.where(finite.reshape(finite.shape[: part.ndim]), part, jnp.nan)

    return jax.tree.map(masked, parts)
