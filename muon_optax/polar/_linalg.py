"""Arithmetic that the polar methods share: the exact scale, the product, the SVD."""

import math
from collections.abc import Sequence
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
from jax import Array, lax

from muon_optax._leaves import LeafError, check_float_array
from muon_optax._platform import Platform


def check_matrix(x: Array) -> None:
    """Refuse anything but a batch of matrices `[..., m, n]` of floats."""
    check_float_array("", x)
    if x.ndim < 2:
        raise LeafError("", x, "a polar factor needs at least two axes, [..., m, n]")


def scale_to_range(x: Array, axes: Sequence[str] = ()) -> tuple[Array, Array]:
    """`x·s` in float32 or wider, and the power of two s that brings max|x| into [2, 4).

    `axes` are the mesh axes along which devices have parts of the same matrices.
    """
    # In that interval s is a normal number for every normal max|x|. What does not depend on
    # the scale of x has no derivative by s, hence stop_gradient.
    x = x.astype(jnp.promote_types(x.dtype, jnp.float32))
    parts = jnp.maximum(jnp.abs(x.real), jnp.abs(x.imag)) if jnp.iscomplexobj(x) else jnp.abs(x)
    largest = lax.stop_gradient(parts.max(axis=(-2, -1), keepdims=True))
    if axes:
        largest = lax.pmax(largest, axes)
    _, exponent = jnp.frexp(largest)
    exponent = jnp.maximum(exponent, jnp.finfo(largest.dtype).minexp + 1)
    scale = jnp.ldexp(jnp.ones_like(largest), 2 - exponent)
    return x * scale.astype(x.dtype), scale


def product(a: Array, b: Array, platform: Platform = "cpu") -> Array:
    """`a @ b`, accumulated and returned in float32 or wider, never in TF32."""
    wide = jnp.promote_types(a.dtype, jnp.float32)
    if platform == "cpu":
        # The same numbers. On a CPU XLA (jax 0.7 to 0.12) cannot run a transposed product of
        # bfloat16 into float32.
        a, b = a.astype(wide), b.astype(wide)
    return jnp.matmul(a, b, precision=lax.Precision.HIGHEST, preferred_element_type=wide)


@partial(jax.jit, static_argnames="compute_uv")  # so that eager calls compile the loop once
def svd(x: Array, compute_uv: bool = True) -> Any:
    """`jnp.linalg.svd` without full matrices; NaN for every matrix that is not finite."""
    # LAPACK's SVD of a matrix with an infinity may never return (OpenBLAS 0.3.30). XLA's
    # call for a whole batch has been seen to hang on a CPU with two threads (jaxlib 0.10.2);
    # it takes one matrix after the other there anyway.
    decompose = partial(jnp.linalg.svd, full_matrices=False, compute_uv=compute_uv)
    finite = jnp.isfinite(x).all((-2, -1), keepdims=True)
    stack = jnp.where(finite, x, 0).reshape(math.prod(x.shape[:-2]), *x.shape[-2:])
    parts = lax.platform_dependent(stack, cpu=partial(lax.map, decompose), default=decompose)

    def masked(part: Array) -> Array:
        part = part.reshape(*x.shape[:-2], *part.shape[1:])
        return jnp.where(finite.reshape(finite.shape[: part.ndim]), part, jnp.nan)

    return jax.tree.map(masked, parts)
