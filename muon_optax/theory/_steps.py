"""The products and operations of a schedule, and the number of steps for a given accuracy."""

from numpy.typing import ArrayLike

from muon_optax._checks import check_integer, check_number
from muon_optax._operations import count_flops, count_products
from muon_optax._schedules import Norm, ScheduleLike, find_preset, find_stages
from muon_optax.coefficients import Schedule
from muon_optax.theory._alignment import (
    Certificate,
    alignment_of_equals,
    certificate,
    check_one_is_given,
    norm_of,
)
from muon_optax.theory._scalar import image

MAX_STEPS = 64


def products(schedule: ScheduleLike) -> int:
    """The number of matrix products in the direct form of a schedule.

    A stage of degree 2κ+1 takes one product for `x·xᴴ`, one for the result, and the products of
    a polynomial of degree κ by Paterson-Stockmeyer's scheme. For κ = 1 to 5 these are 2, 3, 4,
    4 and 5 products in all.

    Args:
      schedule: See `muon_optax.theory`.

    Returns:
      The number of products, large (with `[m, n]`) and small (`[m, m]`) together.

    Example:
      >>> products("jordan"), products("taylor4"), products("cans")
      (15, 20, 24)
    """
    schedule = find_stages(schedule)
    return sum(count_products(schedule, _direct(schedule)))


def flops(schedule: ScheduleLike, m: int, n: int) -> int:
    """Floating-point operations of a schedule's direct form on an m × n matrix.

    For m ≤ n a stage has two products of `2·m²·n` operations each, and its polynomial has small
    products of `2·m³` operations each. `NewtonSchulz` may need fewer; see `NewtonSchulz.plan`.

    Args:
      schedule: See `muon_optax.theory`.
      m: One dimension of the matrix.
      n: The other dimension.

    Returns:
      The number of operations. A multiplication and an addition count as two.

    Raises:
      ValueError: If `m` or `n` is not positive.

    Example:
      >>> flops("jordan", 768, 3072) / (2 * 768**3)  # in products of 768 × 768
      45.0
    """
    check_integer("m", m)
    check_integer("n", n)
    schedule = find_stages(schedule)
    return sum(count_flops(schedule, m, n, _direct(schedule)))


def _direct(schedule: Schedule) -> tuple[int, ...]:
    """Return the segments of the direct form, with one stage each."""
    return (1,) * len(schedule)


def steps_for(
    factor: float,
    family: ScheduleLike,
    *,
    rank: int | None = None,
    delta0: float | None = None,
    spectrum: ArrayLike | None = None,
    normalize: Norm | None = None,
) -> int | None:
    """The fewest steps for which `certificate(...).factor`, s/a, is at most `factor`.

    `muon_bound` at its best step size is then at most `factor` times that of the exact polar
    factor. With `delta0` and the Taylor family, s/a is the paper's χ_q. Pass exactly one of
    `rank`, `delta0` and `spectrum`.

    Args:
      factor: The largest allowed s/a, above 1. With 1.1 the bound is at most 10 % larger.
      family: A `Coefficients`, or any `schedule`; its own number of steps is ignored.
      rank: As in `certificate`.
      delta0: As in `certificate`.
      spectrum: As in `certificate`.
      normalize: As in `alignment`.

    Returns:
      The number of steps, q ≥ 1. None if all stages of a fixed family, or 64 steps of any other
        family, are not enough.

    Raises:
      ValueError: If `factor` is not above 1, if the family is unknown, or if not exactly one of
        `rank`, `delta0` and `spectrum` is given.

    Example:
      >>> from muon_optax.coefficients import minimax
      >>> steps_for(1.1, "taylor2", delta0=0.99), steps_for(1.1, minimax(3, 0.1), delta0=0.99)
      (5, 3)
      >>> steps_for(1.1, "jordan", delta0=0.99) is None  # its singular values do not converge
      True

    Source: Kim & Oh, arXiv 2601.19156, Theorem 2, for `delta0`; docs/theory.md, section 3.
    """
    check_number("factor", factor, "a number above 1, such as 1.1", lambda f: f > 1)
    check_one_is_given(rank=rank, delta0=delta0, spectrum=spectrum)
    normalize, family = norm_of(family, normalize), find_preset(family).coefficients
    most = len(family.stages) if family.tail == "fixed" else MAX_STEPS
    for q in range(1, most + 1):
        schedule = family.schedule(q)
        if rank is not None:  # a cheap test that excludes most q
            a = alignment_of_equals(schedule, rank, normalize)
            if Certificate(a, image(schedule, 0.0)[1]).factor > factor:
                continue
        known = certificate(
            schedule,
            rank=rank,
            delta0=delta0,
            spectrum=spectrum,
            normalize=normalize,
        )
        if known.factor <= factor:
            return q
    return None
