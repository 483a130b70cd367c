"""Knows which schedules keep singular values near those of a polar factor, rounding included.

Every normalisation bounds singular values by 1. Just above, a polynomial may turn negative, as
the first of CANS does at 1.0004, or climb, stage after stage, as all of Polar Express do, and
roundings to half precision go there. A matrix of rank one, all of whose norm is one singular
value, would be stepped away from, or blown up.
"""

import functools
from dataclasses import replace

from muon_optax._polynomials import Stage, first_zero, image
from muon_optax.coefficients import Coefficients, Schedule

# Where roundings are blown up, the next stage is at 8 or more; where not, all stay under 2.1.
_FAR = 3.0
_MARGINS = (1.01, 1.02, 1.03, 1.05, 1.1, 1.2, 1.3, 1.5)


@functools.lru_cache
def flaw(schedule: Schedule, eps: float) -> str:
    """What a schedule may do that no polar factor does, were all roundings of it to conspire.

    As if the largest singular value were a number by itself. A matrix's entries are rounded one
    by one, which may do more: with margins that are barely enough, matrices of rank one were
    seen to turn. None did with those that `remedy` names, or in `METHODS`.

    Args:
      schedule: Stages, first applied first.
      eps: Machine epsilon of the products' operands.

    Returns:
      What, with the interval; empty where every stage is positive there, none goes far, and
      without rounding the last stays below 2: nearer to the polar factor than 0 is.
    """
    unit = eps / 2
    exact = reach = 1.0
    for number, stage in enumerate(schedule, 1):
        # A stage rounds x, x·xᴴ, which is the square of a rounded x, every power, h and h·x.
        reach *= 1 + 1.5 * unit
        if (zero := first_zero(_off(stage, -unit))) <= reach:
            return f"stage {number} turns their sign in [{zero:.6g}, {reach:.6g}]"
        reach = (1 + 3.5 * unit) * image(_off(stage, unit), 0.0, reach)[1]
        exact = image(stage, 0.0, exact)[1]
        if reach >= _FAR:
            return f"stage {number} may take them to {reach:.4g}; the limit is {_FAR:g}"
    return f"without any they end up to {exact:.4g}; the limit is 2" if exact >= 2 else ""


def remedy(family: Coefficients, steps: int, eps: float) -> str:
    """What to do about a flaw: the smallest margin that mends it, if one does.

    Args:
      family: Whose schedule has a flaw.
      steps: How many of its stages.
      eps: Machine epsilon of the products' operands.

    Returns:
      A sentence.
    """
    if flaw(family.schedule(steps), 0.0):
        return "No rounding is needed for that: use other coefficients"
    for safety in _MARGINS:
        if not flaw(replace(family, safety=safety).schedule(steps), eps):
            return (
                f"Use dataclasses.replace(family, safety={safety}), which shrinks the stages, "
                "a wider compute_dtype, or another family, such as JORDAN"
            )
    return "Use a wider compute_dtype, or another family, such as JORDAN"


def _off(stage: Stage, unit: float) -> Stage:
    """Higher powers off by a rounding each, all in one direction."""
    return tuple(c + max(s - 1, 0) * unit * abs(c) for s, c in enumerate(stage))
