"""The factor by which stages multiply a matrix, from its Gram matrix alone.

A stage multiplies x by a polynomial h of the Gram matrix `a = x·xᴴ`, and a by h².
"""

from collections.abc import Sequence
from typing import Protocol

import jax.numpy as jnp
from jax import Array
from jax.typing import DTypeLike

from muon_optax._casting import wide_dtype
from muon_optax._polynomials import Stage, block_width
from muon_optax.coefficients import Schedule


class Product(Protocol):
    """`a @ b`, summed in float32 or wider and returned so, or rounded to a dtype."""

    def __call__(self, a: Array, b: Array, dtype: DTypeLike | None = None) -> Array: ...


def gram_factor(
    stages: Schedule, product: Product, gram: Array, divisor: Array | None = None
) -> Array:
    """`q` with `q·x` the stages applied to x, for `gram = x·xᴴ: [..., m, m]`.

    With a divisor, `[..., 1, 1]`, they are applied to `x/divisor`, and neither x nor its Gram
    matrix is divided. The Gram matrix has the dtype of the products' operands, and so has q.
    """
    dtype = gram.dtype
    ratio = None if divisor is None else divisor**-2
    q = h = stage_factor(stages[0], gram, product, ratio)
    for stage in stages[1:]:
        q, h = q.astype(dtype), h.astype(dtype)
        gram = product(product(gram, h, dtype), h, dtype)
        h = stage_factor(stage, gram, product, ratio)
        q = product(q, h.astype(dtype), dtype if divisor is None else None)
    return (q if divisor is None else q / divisor).astype(dtype)


def stage_factor(
    stage: Stage, gram: Array, product: Product, ratio: Array | None = None
) -> Array:
    """`h = c0·1 + c1·a + … + c_κ·a^κ` of `a = ratio·gram`, not yet rounded."""
    wide = wide_dtype(gram.dtype)
    identity = jnp.broadcast_to(jnp.eye(gram.shape[-1], dtype=wide), gram.shape)
    h = stage[0] * identity
    return h + _evaluate(stage[1:], gram, product, ratio) if len(stage) > 1 else h


def _evaluate(
    coefficients: Sequence[float], a: Array, product: Product, ratio: Array | None
) -> Array:
    """`c1·r·a + … + c_κ·(r·a)^κ` with the fewest products, by Paterson-Stockmeyer."""
    # w - 1 products for the powers up to a^w, then one per further block of w terms.
    width = block_width(len(coefficients))
    powers = [a]
    while len(powers) < width:
        powers.append(product(a, powers[-1], a.dtype))
    wide = wide_dtype(a.dtype)
    ratios = [1.0 if ratio is None else (ratio**k).astype(wide) for k in range(1, width + 1)]
    starts = range(0, len(coefficients), width)
    blocks = [_combine(coefficients[i : i + width], ratios, powers) for i in starts]
    total = blocks.pop()
    while blocks:
        total = blocks.pop() + ratios[-1] * product(powers[-1], total.astype(a.dtype))
    return total


def _combine(
    coefficients: Sequence[float], ratios: Sequence[Array | float], powers: Sequence[Array]
) -> Array:
    wide = wide_dtype(powers[0].dtype)
    terms = [c * r * power.astype(wide) for c, r, power in zip(coefficients, ratios, powers)]
    return sum(terms[1:], start=terms[0])
