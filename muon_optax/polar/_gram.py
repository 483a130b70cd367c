"""The factor by which stages multiply a matrix, from its Gram matrix alone.

A stage multiplies x by a polynomial h of the Gram matrix `a = x·xᴴ`, and a by h².
"""

from collections.abc import Callable, Sequence

import jax.numpy as jnp
from jax import Array

from muon_optax._polynomials import Stage, block_width
from muon_optax.coefficients import Schedule

Product = Callable[[Array, Array], Array]  # in float32 or wider


def gram_factor(stages: Schedule, gram: Array, product: Product) -> Array:
    """`q` with `q·x` the stages applied to x, for `gram = x·xᴴ: [..., m, m]`.

    The Gram matrix has the dtype of the products' operands, and so has q.
    """
    q = h = stage_factor(stages[0], gram, product)
    for stage in stages[1:]:
        gram = product(gram, h).astype(gram.dtype)
        gram = product(gram, h).astype(gram.dtype)
        h = stage_factor(stage, gram, product)
        q = product(q, h).astype(gram.dtype)
    return q


def stage_factor(stage: Stage, gram: Array, product: Product) -> Array:
    """`h = c0·1 + c1·a + … + c_κ·a^κ` of the Gram matrix a, rounded once."""
    wide = jnp.promote_types(gram.dtype, jnp.float32)
    identity = jnp.broadcast_to(jnp.eye(gram.shape[-1], dtype=wide), gram.shape)
    h = stage[0] * identity
    if len(stage) > 1:
        h += _evaluate(stage[1:], gram, product)
    return h.astype(gram.dtype)


def _evaluate(coefficients: Sequence[float], a: Array, product: Product) -> Array:
    """`c1·a + … + c_κ·a^κ` with the fewest products, by Paterson-Stockmeyer."""
    # w - 1 products for the powers up to a^w, then one per further block of w terms.
    width = block_width(len(coefficients))
    powers = [a]
    while len(powers) < width:
        powers.append(product(a, powers[-1]).astype(a.dtype))
    starts = range(0, len(coefficients), width)
    blocks = [_combine(coefficients[i : i + width], powers) for i in starts]
    total = blocks.pop()
    while blocks:
        total = blocks.pop() + product(powers[-1], total.astype(a.dtype))
    return total


def _combine(coefficients: Sequence[float], powers: Sequence[Array]) -> Array:
    wide = jnp.promote_types(powers[0].dtype, jnp.float32)
    terms = [c * power.astype(wide) for c, power in zip(coefficients, powers)]
    return sum(terms[1:], start=terms[0])
