"""Newton-Schulz, segment by segment, on many matrices in few products.

    Operand(x, largest) → y = s·x for an exact power of two s
    → for every segment: r = y·yᴴ, q = factor(r), y ← q·y

Tall matrices are not transposed: `r = yᴴ·y` and `y ← y·q`. Matrices of equal shape are
joined to one stack and share products, and so are all Gram matrices r.
"""

import functools
import math
from collections.abc import Callable, Sequence
from typing import NamedTuple

from jax import Array
from jax.typing import DTypeLike

from muon_optax._casting import wide_dtype
from muon_optax._platform import Platform
from muon_optax.coefficients import Schedule
from muon_optax.polar._gram import gram_factor
from muon_optax.polar._joining import group_indices, join, map_joined, split
from muon_optax.polar._linalg import find_scale, gram_matrix, multiply_short_side
from muon_optax.polar._normalization import NormBound
from muon_optax.polar._segments import NewtonSchulzPlan
from muon_optax.polar._team import ALONE, RowProducts, Team


class Operand(NamedTuple):
    """The input of Newton-Schulz, prepared from matrices `[..., m, n]`.

    Attributes:
      x: The matrices, already rounded to bfloat16 if the products take bfloat16.
      largest: `[..., m]`, the largest absolute value of each row.
    """

    x: Array
    largest: Array


def iterate(
    schedule: Schedule,
    plan: NewtonSchulzPlan,
    bound: NormBound,
    operands: Sequence[Operand],
    platform: Platform,
    team: Team = ALONE,
) -> list[Array]:
    """Apply the schedule to matrices of one bucket; see `NewtonSchulz.polar_stacks`.

    `plan` is the plan of any of these matrices.
    """
    xs, largest = zip(*operands)
    groups = group_indices([x.shape[-2:] for x in xs])
    joined = [
        (join([xs[i] for i in group]), join([largest[i][..., None] for i in group]))
        for group in groups
    ]
    qs, ys = _iterate_joined(schedule, plan, bound, joined, platform, team)
    polars = list(xs)
    for group, q, y in zip(groups, qs, ys):
        for i, polar in zip(group, _finish(q, y, [xs[i].shape for i in group], platform, team)):
            polars[i] = polar
    return polars


def _finish(
    q: Array,
    y: Array,
    shapes: Sequence[tuple[int, ...]],
    platform: Platform,
    team: Team,
) -> list[Array]:
    """Return the last product, `q·y`, split into arrays of these shapes."""
    multiply = functools.partial(
        multiply_short_side, tall=_is_tall(y, team), dtype=None, platform=platform
    )
    if platform == "cpu":
        return split(multiply(q, y), shapes)
    # An accelerator fuses the weight update into a product if each array has its own.
    return [multiply(*parts) for parts in zip(split(q, shapes), split(y, shapes))]


def _iterate_joined(
    schedule: Schedule,
    plan: NewtonSchulzPlan,
    bound: NormBound,
    joined: Sequence[tuple[Array, Array]],
    platform: Platform,
    team: Team,
) -> tuple[list[Array], list[Array]]:
    """Return the operands q and y of the last product, for stacks of distinct shapes."""
    products = RowProducts(platform, team)
    tall = [_is_tall(x, team) for x, _ in joined]

    def gram_matrices(ys: Sequence[Array], dtype: DTypeLike | None) -> list[Array]:
        rounded = None if team.size > 1 else dtype  # in a team, round the sum and not the parts
        parts = [gram_matrix(y, t, rounded, platform) for y, t in zip(ys, tall)]
        return [products.sum(part, dtype) for part in parts]

    # This keeps the norms, and their powers in the factor, near 1.
    halvings = round(math.log2(plan.m * plan.n) / 4)
    largest = team.max([rows.max((-2, -1), keepdims=True) for _, rows in joined])
    scales = [find_scale(of_stack, halvings) for of_stack in largest]
    scaled = [_scale(x, s) for (x, _), s in zip(joined, scales)]
    ys, grams, divisors = _normalize(scaled, scales, tall, plan.dtype, bound, gram_matrices)
    start, qs = 0, []
    for count in plan.segments:
        if qs:
            ys = [
                multiply_short_side(q, y, t, plan.dtype, platform)
                for q, y, t in zip(qs, ys, tall)
            ]
            grams, divisors = gram_matrices(ys, plan.dtype), []
        factor = functools.partial(gram_factor, schedule[start : start + count], products)
        qs = map_joined(factor, [gram.astype(plan.dtype) for gram in grams], *divisors)
        start += count
    return qs, ys


def _normalize(
    scaled: Sequence[Array],
    scales: Sequence[Array],
    tall: Sequence[bool],
    dtype: DTypeLike,
    bound: NormBound,
    gram_matrices: Callable[[Sequence[Array], DTypeLike | None], list[Array]],
) -> tuple[list[Array], list[Array], list[list[Array]]]:
    """Return the operands y, their Gram matrices, and the divisors still to apply to both."""
    ys = [x.astype(dtype) for x in scaled]
    # Powers of the norm would leave the range of float16.
    divides = bound.is_of_rows or dtype == "float16"
    grams = gram_matrices(ys, None if divides else dtype)
    norms = [
        # In the scale's dtype: the scale of a float64 matrix may exceed float32.
        bound(g.astype(wide_dtype(g.dtype, s.dtype)), s).astype(wide_dtype(g.dtype))
        for g, s in zip(grams, scales)
    ]
    if not divides:
        return ys, grams, [norms]
    rows = [norm.mT if t else norm for norm, t in zip(norms, tall)]
    ys = [(x / row.astype(x.dtype)).astype(dtype) for x, row in zip(scaled, rows)]
    return ys, [gram / norm / norm.mT for gram, norm in zip(grams, norms)], []


def _is_tall(x: Array, team: Team) -> bool:
    """Whether the columns are the short side; in a team all matrices are wide."""
    return team.size == 1 and x.shape[-2] > x.shape[-1]


def _scale(x: Array, scale: Array) -> Array:
    wide = wide_dtype(x.dtype)
    return x.astype(wide) * scale.astype(wide)
