"""Knows which schedules keep singular values near those of a polar factor, rounding included.

Every normalisation bounds singular values by 1. Just above, a polynomial may turn negative, as
the first of CANS does at 1.0004, or climb, stage after stage, as all of Polar Express do, and
roundings to half precision go there. A matrix of rank one, all of whose norm is one singular
value, would be stepped away from, or blown up.
"""

import functools

from muon_optax.coefficients import Schedule
from muon_optax.polynomials import Stage, first_zero, image

# Where roundings are blown up, the next stage is at 8 or more; where not, all stay under 2.1.
_FAR = 3.0


@functools.lru_cache
def flaw(schedule: Schedule, eps: float) -> str:
    """What a schedule may do that no polar factor does, were all roundings to conspire.

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
        # A stage rounds x, x·xᴴ (the square of a rounded x), every higher power, h and h·x.
        reach *= 1 + 1.5 * unit
        if (zero := first_zero(_off(stage, -unit))) <= reach:
            return f"stage {number} turns the sign in [{zero:.6g}, {reach:.6g}]"
        reach = (1 + 3.5 * unit) * image(_off(stage, unit), 0.0, reach)[1]
        exact = image(stage, 0.0, exact)[1]
        if reach >= _FAR:
            return f"stage {number} may reach {reach:.4g}"
    return f"singular values in (0, 1] go up to {exact:.4g}" if exact >= 2 else ""


def _off(stage: Stage, unit: float) -> Stage:
    """Higher powers off by a rounding each, all in one direction."""
    return tuple(c + max(s - 1, 0) * unit * abs(c) for s, c in enumerate(stage))
