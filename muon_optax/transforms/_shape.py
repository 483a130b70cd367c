"""Knows the factor that an orthogonal update gets from its matrix's two sides."""

import math
from collections.abc import Callable

SHAPE_SCALINGS: dict[str, Callable[[int, int], float]] = {
    # Jordan et al. 2024, kellerjordan.github.io/posts/muon; optax.contrib's default.
    "jordan": lambda fan_in, fan_out: math.sqrt(max(1.0, fan_out / fan_in)),
    # Liu et al. 2025 (Moonlight), arXiv 2502.16982, Section 2.2: AdamW's update RMS.
    "adam_rms": lambda fan_in, fan_out: 0.2 * math.sqrt(max(fan_in, fan_out)),
    # Bernstein 2025, jeremybernste.in/writing/deriving-muon: unit RMS to RMS operator norm.
    "rms_to_rms": lambda fan_in, fan_out: math.sqrt(fan_out / fan_in),
    "none": lambda fan_in, fan_out: 1.0,
}


def shape_factor(rule: str, fan_in: int, fan_out: int) -> float:
    """The factor of a `fan_in × fan_out` matrix under a rule of `SHAPE_SCALINGS`.

    Args:
      rule: A name in `SHAPE_SCALINGS`.
      fan_in: Rows of the matrix view: the product of the reduction axes.
      fan_out: Columns: the product of the output axes.

    Returns:
      The factor; 1 for an empty matrix.

    Raises:
      ValueError: If the rule is unknown.

    Example:
      >>> shape_factor("jordan", 256, 1024), shape_factor("jordan", 1024, 256)
      (2.0, 1.0)
    """
    if rule not in SHAPE_SCALINGS:
        raise ValueError(f"unknown shape scaling {rule!r}; use one of {sorted(SHAPE_SCALINGS)}")
    return SHAPE_SCALINGS[rule](fan_in, fan_out) if fan_in and fan_out else 1.0
