"""Knows the factor by which stages multiply a matrix, from its Gram matrix alone."""

import functools
from collections.abc import Sequence

import jax.numpy as jnp
from jax import Array

from muon_optax._polynomials import Stage, block_width
from muon_optax.coefficients import Schedule
from muon_optax.polar._linalg import product


def gram_factor(stages: Schedule, gram: Array) -> Array:
    """`q` with `q·x` the stages applied to x, for `gram = x·xᴴ`.

    Every stage multiplies x by a polynomial h of the Gram matrix, and the Gram matrix by h².

    Args:
      stages: At least one.
      gram: `[..., m, m]`, in the dtype of the products' operands.

    Returns:
      The same shape and dtype.
    """
    q = h = stage_factor(stages[0], gram)
    for stage in stages[1:]:
        gram = _rounded_product(_rounded_product(gram, h), h)
        h = stage_factor(stage, gram)
        q = _rounded_product(q, h)
    return q


def stage_factor(stage: Stage, gram: Array) -> Array:
    """`h = c0·1 + c1·a + … + c_κ·a^κ` of the Gram matrix a, rounded once."""
    constant, *higher = stage
    identity = jnp.eye(gram.shape[-1], dtype=jnp.promote_types(gram.dtype, jnp.float32))
    h = constant * identity
    if higher:
        h += _polynomial(higher, gram)
    return jnp.broadcast_to(h, gram.shape).astype(gram.dtype)


def _polynomial(coefficients: Sequence[float], a: Array) -> Array:
    """`c1·a + … + c_κ·a^κ` with the fewest products, by Paterson-Stockmeyer."""
    # w - 1 products for the powers up to a^w, then one per further block of w terms.
    width = block_width(len(coefficients))
    powers = [a]
    while len(powers) < width:
        powers.append(_rounded_product(a, powers[-1]))
    starts = range(0, len(coefficients), width)
    blocks = [_combination(coefficients[i : i + width], powers) for i in starts]
    total = blocks.pop()
    while blocks:
        total = blocks.pop() + product(powers[-1], total.astype(a.dtype))
    return total


def _combination(coefficients: Sequence[float], powers: list[Array]) -> Array:
    wide = jnp.promote_types(powers[0].dtype, jnp.float32)
    terms = [c * power.astype(wide) for c, power in zip(coefficients, powers)]
    return functools.reduce(jnp.add, terms)


def _rounded_product(a: Array, b: Array) -> Array:
    return product(a, b).astype(a.dtype)
