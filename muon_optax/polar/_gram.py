"""The factor by which stages multiply a matrix, computed from its Gram matrix alone.

A stage multiplies x by a polynomial h of the Gram matrix `a = x·xᴴ`, and a by h². The factors
and the Gram matrices commute, so each member of a team can compute some rows of every product.
"""

from collections.abc import Sequence

import jax.numpy as jnp
from jax import Array

from muon_optax._casting import wide_dtype
from muon_optax._polynomials import Stage, block_width
from muon_optax.coefficients import Schedule
from muon_optax.polar._team import RowProducts


def gram_factor(
    stages: Schedule, products: RowProducts, gram: Array, divisor: Array | None = None
) -> Array:
    """Return the q for which `q·x` is the stages applied to x, from `gram = x·xᴴ: [..., m, m]`.

    With a divisor, `[..., 1, 1]`, the stages are applied to `x/divisor`; the Gram matrix is
    still that of x. The Gram matrix and q have the dtype of the products' operands.
    """
    dtype, rows = gram.dtype, products.take(gram)
    ratio = None if divisor is None else divisor**-2
    q = h = stage_factor(stages[0], products, rows, gram, ratio)
    whole = products.gather(h.astype(dtype)) if len(stages) > 1 else h
    for stage in stages[1:]:
        rows = products.multiply(products.multiply(rows, whole, dtype), whole, dtype)
        gram = products.gather(rows)
        h = stage_factor(stage, products, rows, gram, ratio)
        whole = products.gather(h.astype(dtype))
        q = products.multiply(q.astype(dtype), whole, dtype if divisor is None else None)
    return products.gather((q if divisor is None else q / divisor).astype(dtype))


def stage_factor(
    stage: Stage,
    products: RowProducts,
    rows: Array,
    gram: Array,
    ratio: Array | None = None,
) -> Array:
    """Return rows of `h = c0·1 + c1·a + … + c_κ·a^κ` for `a = ratio·gram`, in a wide dtype."""
    wide = wide_dtype(gram.dtype)
    identity = products.take(jnp.eye(gram.shape[-1], dtype=wide))
    h = stage[0] * jnp.broadcast_to(identity, rows.shape)
    return h + _evaluate(stage[1:], products, rows, gram, ratio) if len(stage) > 1 else h


def _evaluate(
    coefficients: Sequence[float],
    products: RowProducts,
    rows: Array,
    a: Array,
    ratio: Array | None,
) -> Array:
    """Return `c1·r·a + … + c_κ·(r·a)^κ` by Paterson-Stockmeyer, with the fewest products."""
    # w - 1 products give the powers up to a^w. Each further block of w terms takes one product.
    width = block_width(len(coefficients))
    powers = [rows]
    while len(powers) < width:
        powers.append(products.multiply(powers[-1], a, a.dtype))
    wide = wide_dtype(a.dtype)
    ratios = [1.0 if ratio is None else (ratio**k).astype(wide) for k in range(1, width + 1)]
    starts = range(0, len(coefficients), width)
    blocks = [_combine(coefficients[i : i + width], ratios, powers) for i in starts]
    total = blocks.pop()
    highest = products.gather(powers[-1]) if blocks else a
    while blocks:
        rest = products.multiply(total.astype(a.dtype), highest)
        total = blocks.pop() + ratios[-1] * rest
    return total


def _combine(
    coefficients: Sequence[float], ratios: Sequence[Array | float], powers: Sequence[Array]
) -> Array:
    wide = wide_dtype(powers[0].dtype)
    terms = [c * r * power.astype(wide) for c, r, power in zip(coefficients, ratios, powers)]
    return sum(terms[1:], start=terms[0])
