"""The scalar map of a schedule: what it makes of each singular value."""

import numpy as np
from numpy.typing import ArrayLike, NDArray

from muon_optax._polynomials import evaluate
from muon_optax._polynomials import image as stage_image
from muon_optax._schedules import ScheduleLike, find_stages


def scalar_map(schedule: ScheduleLike, x: ArrayLike) -> NDArray[np.float64]:
    """The map of singular values, `P_q(x) = (p_q ∘ … ∘ p_1)(x)`.

    Newton-Schulz keeps the singular vectors and maps each singular value by P_q.

    Args:
      schedule: See `muon_optax.theory`.
      x: Singular values after normalization, any shape.

    Returns:
      float64 array of the shape of `x`.

    Example:
      >>> scalar_map("jordan:1", [0.0, 0.5, 1.0]).round(4).tolist()
      [0.0, 1.1889, 0.701]

    Source: Kim & Oh, arXiv 2601.19156, Section 3.4.
    """
    value = np.asarray(x, np.float64)
    for stage in find_stages(schedule):
        value = evaluate(stage, value)
    return value


def image(schedule: ScheduleLike, lower: float, upper: float = 1.0) -> tuple[float, float]:
    """The image `[min P_q, max P_q]` of the interval [lower, upper], computed stage by stage.

    Args:
      schedule: See `muon_optax.theory`.
      lower: Lower end.
      upper: Upper end.

    Returns:
      The smallest and the largest value of the scalar map.

    Raises:
      ValueError: If `lower > upper`.

    Example:
      >>> [round(end, 4) for end in image("jordan", 1e-3)]
      [0.4705, 1.2024]
    """
    if not lower <= upper:
        raise ValueError(f"lower={lower} exceeds upper={upper}; swap them")
    for stage in find_stages(schedule):
        lower, upper = stage_image(stage, lower, upper)
    return lower, upper


def sup_error(schedule: ScheduleLike, lower: float) -> float:
    """The largest error `max |1 - P_q(x)|` over x in [lower, 1].

    Args:
      schedule: See `muon_optax.theory`.
      lower: The smallest singular value, after normalization.

    Returns:
      The largest distance of a singular value from 1. It bounds the operator-norm distance to
      the polar factor for any matrix with singular values in [lower, 1].

    Raises:
      ValueError: If `lower` exceeds 1.

    Example:
      >>> round(sup_error("jordan:8", 1e-3), 5)
      0.31817
    """
    smallest, largest = image(schedule, lower)
    return max(1.0 - smallest, largest - 1.0)
