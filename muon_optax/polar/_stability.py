"""Checks whether a schedule keeps singular values near 1 when operands are rounded.

Normalization bounds singular values by 1, but rounding to half precision can raise them above.
Above 1 a polynomial may be negative, as the first polynomial of CANS is at 1.0004. Or values
may grow from stage to stage, as with all polynomials of Polar Express. The update of a rank-one
matrix would then change its sign or overflow.
"""

import functools
from dataclasses import replace

from muon_optax._polynomials import Stage, first_zero, image
from muon_optax.coefficients import Coefficients, Schedule

# A schedule that amplifies rounding reaches 8 or more; all others stay below 2.1.
_LIMIT = 3.0
_SAFETY_FACTORS = (1.01, 1.02, 1.03, 1.05, 1.1, 1.2, 1.3, 1.5)


@functools.lru_cache
def find_instability(schedule: Schedule, eps: float) -> str:
    """Return why a schedule is unstable if every rounding is the worst; "" if it is stable.

    `eps` is the machine epsilon of the products' operands. A schedule is stable if every stage
    is positive on its possible inputs, if no stage exceeds the limit, and if without rounding
    the last stage stays below 2. Numbers below 2 are closer to 1 than 0 is.

    This follows the largest singular value only. Rounding the entries of a matrix can have a
    larger effect, so the safety factors of `suggest_fix` leave a margin.
    """
    unit = eps / 2
    exact = reach = 1.0
    for number, stage in enumerate(schedule, 1):
        # A stage rounds x, x·xᴴ (the square of a rounded x), every power, h and h·x.
        reach *= 1 + 1.5 * unit
        if (zero := first_zero(_perturb(stage, -unit))) <= reach:
            interval = f"[{zero:.6g}, {reach:.6g}]"
            return f"stage {number} makes singular values in {interval} negative"
        reach = (1 + 3.5 * unit) * image(_perturb(stage, unit), 0.0, reach)[1]
        exact = image(stage, 0.0, exact)[1]
        if reach >= _LIMIT:
            found = f"stage {number} may raise singular values to {reach:.4g}"
            return f"{found}; the limit is {_LIMIT:g}"
    if exact >= 2:
        return f"even without rounding, singular values reach {exact:.4g}; the limit is 2"
    return ""


def suggest_fix(family: Coefficients, steps: int, eps: float) -> str:
    """Suggest what to use instead of an unstable family: the least safety factor that helps."""
    if find_instability(family.schedule(steps), 0.0):
        return "This happens even without rounding, so use other coefficients"
    for safety in _SAFETY_FACTORS:
        if not find_instability(replace(family, safety=safety).schedule(steps), eps):
            return (
                f"Use dataclasses.replace(family, safety={safety}), which shrinks the stages, "
                "a wider compute_dtype, or another family, such as JORDAN"
            )
    return "Use a wider compute_dtype, or another family, such as JORDAN"


def _perturb(stage: Stage, unit: float) -> Stage:
    """Return the stage with each higher power rounded in the same direction."""
    return tuple(c + max(s - 1, 0) * unit * abs(c) for s, c in enumerate(stage))
