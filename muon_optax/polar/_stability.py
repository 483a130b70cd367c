"""Which schedules keep singular values near 1 when operands are rounded.

Every normalization bounds singular values by 1. Rounding to half precision can take them just
above. There a polynomial may turn negative, as the first of CANS does at 1.0004, or grow stage
after stage, as all of Polar Express do. A matrix of rank one, whose norm is one singular value,
would then change sign or blow up.
"""

import functools
from dataclasses import replace

from muon_optax._polynomials import Stage, first_zero, image
from muon_optax.coefficients import Coefficients, Schedule

# Where roundings are amplified the next stage reaches 8 or more; elsewhere all stay below 2.1.
_LIMIT = 3.0
_SAFETY_FACTORS = (1.01, 1.02, 1.03, 1.05, 1.1, 1.2, 1.3, 1.5)


@functools.lru_cache
def find_instability(schedule: Schedule, eps: float) -> str:
    """How a schedule could leave the polar factor if all its roundings conspired; "" if not.

    `eps` is the machine epsilon of the products' operands. The result is empty where every
    stage is positive on the values that it can get, none exceeds the limit, and without
    rounding the last stays below 2, closer to the polar factor than 0 is.

    It follows the largest singular value as a number. A matrix is rounded entry by entry, which
    can do more: with a safety factor that is barely enough, matrices of rank one were seen to
    change sign. None did with the factors that `suggest_fix` names, or in `METHODS`.
    """
    unit = eps / 2
    exact = reach = 1.0
    for number, stage in enumerate(schedule, 1):
        # A stage rounds x, x·xᴴ, which is the square of a rounded x, every power, h and h·x.
        reach *= 1 + 1.5 * unit
        if (zero := first_zero(_perturb(stage, -unit))) <= reach:
            return f"stage {number} makes them negative in [{zero:.6g}, {reach:.6g}]"
        reach = (1 + 3.5 * unit) * image(_perturb(stage, unit), 0.0, reach)[1]
        exact = image(stage, 0.0, exact)[1]
        if reach >= _LIMIT:
            return f"stage {number} may raise them to {reach:.4g}; the limit is {_LIMIT:g}"
    return f"even without rounding they reach {exact:.4g}; the limit is 2" if exact >= 2 else ""


def suggest_fix(family: Coefficients, steps: int, eps: float) -> str:
    """What to write in place of an unstable family: the smallest safety factor that helps."""
    if find_instability(family.schedule(steps), 0.0):
        return "This happens even without rounding: use other coefficients"
    for safety in _SAFETY_FACTORS:
        if not find_instability(replace(family, safety=safety).schedule(steps), eps):
            return (
                f"Use dataclasses.replace(family, safety={safety}), which shrinks the stages, "
                "a wider compute_dtype, or another family, such as JORDAN"
            )
    return "Use a wider compute_dtype, or another family, such as JORDAN"


def _perturb(stage: Stage, unit: float) -> Stage:
    """The stage with its higher powers off by a rounding each, all in one direction."""
    return tuple(c + max(s - 1, 0) * unit * abs(c) for s, c in enumerate(stage))
