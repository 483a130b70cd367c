"""Knows what a wanted accuracy costs: steps, and matrix products."""

from numpy.typing import ArrayLike

from muon_optax._polynomials import power_products
from muon_optax.coefficients import Coefficients, Schedule, find_family
from muon_optax.theory._alignment import (
    Certificate,
    Norm,
    alignment_of_equals,
    certificate,
    check_one_is_given,
)
from muon_optax.theory._scalar import image

_MOST_STEPS = 64


def products(schedule: Schedule) -> int:
    """How many matrix products the direct form of a schedule makes.

    A stage of degree 2κ+1 takes one for `x·xᴴ`, one for the result, and between them what the
    polynomial of degree κ takes by Paterson-Stockmeyer: 2, 3, 4, 4, 5 for κ = 1 to 5.

    Args:
      schedule: Stages, first applied first.

    Returns:
      The number of products, large (`[m, n]`) and small (`[m, m]`) ones alike.

    Example:
      >>> from muon_optax.coefficients import JORDAN, taylor
      >>> products(JORDAN.schedule(5)), products(taylor(4).schedule(5))
      (15, 20)
    """
    return sum(2 + power_products(len(stage) - 1) for stage in schedule)


def flops(schedule: Schedule, m: int, n: int) -> int:
    """Floating-point operations of a schedule's direct form on an m × n matrix.

    What `NewtonSchulz` does may be less: `NewtonSchulz.plan` counts it. A stage makes two
    products with the long side in them, `2·m²·n` each for m ≤ n, and the small ones of its
    polynomial, `2·m³` each: for wide matrices a low degree with many steps costs more than
    `products` tells.

    Args:
      schedule: Stages, first applied first.
      m: One side.
      n: The other side.

    Returns:
      Operations, a product of a multiplication and an addition counted as two.

    Raises:
      ValueError: If a side is not positive.

    Example:
      >>> from muon_optax.coefficients import JORDAN
      >>> flops(JORDAN.schedule(5), 768, 3072) / (2 * 768**3)  # in products of 768 × 768
      45.0
    """
    if not (m > 0 and n > 0):
        raise ValueError(f"m={m}, n={n}; use positive sides")
    m, n = min(m, n), max(m, n)
    kappas = [len(stage) - 1 for stage in schedule]
    return sum(4 * m * m * n + 2 * m**3 * power_products(kappa) for kappa in kappas)


def steps_for(
    factor: float,
    family: Coefficients | str,
    *,
    rank: int | None = None,
    delta0: float | None = None,
    singular_values: ArrayLike | None = None,
    normalize: Norm = "frobenius",
) -> int | None:
    """The fewest steps whose guarantee is within a wanted factor of the exact polar factor's.

    The factor is `certificate(...).factor`, `s/a`; with `delta0` and the Taylor family it is
    the paper's χ_q, so that this is the smallest q with `χ_q ≤ factor`.

    Args:
      factor: The wanted factor, above 1: 1.1 for a guarantee within 10 %.
      family: A family or its name in `FAMILIES`.
      rank: Nothing is known but the rank; see `certificate`.
      delta0: The paper's δ_0 is known.
      singular_values: The whole spectrum is known.
      normalize: As in `NewtonSchulz`.

    Returns:
      q ≥ 1, or None where the family does not get there: it has no more stages, or 64 of
      them do not suffice.

    Raises:
      ValueError: If `factor` is not above 1, the family is unknown, or not exactly one of the
        three is given.

    Example:
      >>> from muon_optax.coefficients import minimax
      >>> steps_for(1.1, "taylor2", delta0=0.99), steps_for(1.1, minimax(3, 0.1), delta0=0.99)
      (5, 3)
      >>> steps_for(1.1, "jordan", delta0=0.99) is None  # its singular values never settle
      True

    Source: Kim & Oh, arXiv 2601.19156, Theorem 2, for `delta0`; docs/theory.md, section 3.
    """
    if not factor > 1.0:
        raise ValueError(f"factor={factor}; use a number above 1, such as 1.1")
    check_one_is_given(rank=rank, delta0=delta0, singular_values=singular_values)
    family = find_family(family)
    most = len(family.stages) if family.tail == "fixed" else _MOST_STEPS
    for q in range(1, most + 1):
        schedule = family.schedule(q)
        if rank is not None:  # most q are told at once not to suffice
            a = alignment_of_equals(schedule, rank, normalize)
            if Certificate(a, image(schedule, 0.0)[1]).factor > factor:
                continue
        known = certificate(
            schedule,
            rank=rank,
            delta0=delta0,
            singular_values=singular_values,
            normalize=normalize,
        )
        if known.factor <= factor:
            return q
    return None
