"""The scalar map of a schedule: the singular value out, of a singular value in."""

import numpy as np
from numpy.typing import ArrayLike, NDArray

from muon_optax._polynomials import evaluate
from muon_optax._polynomials import image as stage_image
from muon_optax.coefficients import Schedule


def scalar_map(schedule: Schedule, x: ArrayLike) -> NDArray[np.float64]:
    """`P_q(x) = (p_q ∘ … ∘ p_1)(x)`: singular values out, of singular values in.

    Newton-Schulz keeps the singular vectors and moves each singular value by this map.

    Args:
      schedule: Stages, first applied first, as from `Coefficients.schedule`.
      x: Singular values after normalization, any shape.

    Returns:
      float64 array of the shape of `x`.

    Example:
      >>> from muon_optax.coefficients import JORDAN
      >>> scalar_map(JORDAN.schedule(1), [0.0, 0.5, 1.0]).round(4).tolist()
      [0.0, 1.1889, 0.701]

    Source: Kim & Oh, arXiv 2601.19156, Section 3.4.
    """
    value = np.asarray(x, np.float64)
    for stage in schedule:
        value = evaluate(stage, value)
    return value


def image(schedule: Schedule, lower: float, upper: float = 1.0) -> tuple[float, float]:
    """The exact image `[min P_q, max P_q]` of the interval [lower, upper].

    The image of an interval under a polynomial is an interval. Its ends are values at the ends
    or at critical points, and are computed stage by stage.

    Args:
      schedule: Stages, first applied first.
      lower: Lower end.
      upper: Upper end.

    Returns:
      The smallest and the largest value of the scalar map.

    Raises:
      ValueError: If `lower > upper`.

    Example:
      >>> from muon_optax.coefficients import JORDAN
      >>> [round(end, 4) for end in image(JORDAN.schedule(5), 1e-3)]
      [0.4705, 1.2024]
    """
    if not lower <= upper:
        raise ValueError(f"lower={lower} exceeds upper={upper}; swap them")
    for stage in schedule:
        lower, upper = stage_image(stage, lower, upper)
    return lower, upper


def sup_error(schedule: Schedule, lower: float) -> float:
    """`max |1 - P_q(x)|` over x in [lower, 1].

    Args:
      schedule: Stages, first applied first.
      lower: The smallest singular value, after normalization.

    Returns:
      The largest distance of a singular value from 1; the operator-norm distance to the
      polar factor of any matrix whose singular values lie in [lower, 1].

    Raises:
      ValueError: If `lower` exceeds 1.

    Example:
      >>> from muon_optax.coefficients import JORDAN
      >>> round(sup_error(JORDAN.schedule(8), 1e-3), 5)
      0.31817
    """
    smallest, largest = image(schedule, lower)
    return max(1.0 - smallest, largest - 1.0)
