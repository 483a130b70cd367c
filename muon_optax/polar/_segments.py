"""Knows where Newton-Schulz makes its Gram matrices: at every stage, or as seldom as it can.

To carry a Gram matrix over a stage takes three products of the short side; to make it anew, two
with the long side in them. So carrying pays where `2·n > 3·m`, whatever the polynomial.
"""

import functools
import math
from dataclasses import dataclass
from typing import Literal

from muon_optax.coefficients import Schedule

Form = Literal["auto", "direct", "gram"]

_CARRYING = 3  # q·h, and r·h·h: small products between two stages of a segment


@dataclass(frozen=True)
class PolarPlan:
    """How `NewtonSchulz` works on an m × n matrix, m ≤ n; `print` it.

    A segment is a run of stages on one Gram matrix `r = x·xᴴ`: each stage multiplies q by
    `h(r)` and carries r on as `r·h(r)²`, and the last is followed by `x ← q·x`. Segments of one
    stage each are the direct form; a single one is the Gram form; else it has restarts.

    Attributes:
      m: The short side.
      n: The long side.
      dtype: Of the products' operands; they accumulate in float32 or wider.
      segments: How many stages each has, first to last.
      powers: Small products (m × m by m × m) that the stages' polynomials take by themselves.

    Example:
      >>> from muon_optax import NewtonSchulz
      >>> print(NewtonSchulz().plan((768, 3072)))
      768 × 3072 in float32: Gram form, 5 stages, 22.6 GFLOP (direct form: 40.8)
    """

    m: int
    n: int
    dtype: str
    segments: tuple[int, ...]
    powers: int

    @property
    def flops(self) -> int:
        """Of all products on one matrix; a multiplication and an addition count as two."""
        return self._flops(len(self.segments))

    def flops_each(self, devices: int) -> float:
        """Of one of so many devices with a part of the long side each."""
        large = 4 * len(self.segments) * self.m**2 * self.n
        return self.flops - large + large / devices

    def _flops(self, segments: int) -> int:
        carried = sum(self.segments) - segments
        large, small = 2 * self.m**2 * self.n, 2 * self.m**3
        return 2 * segments * large + (self.powers + _CARRYING * carried) * small

    def __str__(self) -> str:
        stages = sum(self.segments)
        carries = len(self.segments) < stages
        form = "Gram form" if carries else "direct form"
        parts = " + ".join(map(str, self.segments)) if carries else stages
        other = f" (direct form: {self._flops(stages) / 1e9:.3g})" if carries else ""
        what = f"{form}, {parts} stage{'s' * (stages > 1)}, {self.flops / 1e9:.3g} GFLOP"
        return f"{self.m} × {self.n} in {self.dtype}: {what}{other}"


def segments(schedule: Schedule, m: int, n: int, eps: float, form: Form) -> tuple[int, ...]:
    """How many stages share a Gram matrix: the fewest products, within what rounding allows.

    Args:
      schedule: Stages, first applied first.
      m: The short side.
      n: The long side.
      eps: Machine epsilon of the products' operands.
      form: `"direct"` for one stage each, `"gram"` for as many as are stable, `"auto"` for
        the cheaper.

    Returns:
      The stages in each segment, first to last.
    """
    if form == "direct" or (form == "auto" and 2 * n <= _CARRYING * m):
        return (1,) * len(schedule)
    return _longest(schedule, eps)


@functools.lru_cache
def _longest(schedule: Schedule, eps: float) -> tuple[int, ...]:
    """The fewest stable segments; of these, those whose worst `amplification` is least."""
    best = [(0, 0.0, ())]
    for stop in range(1, len(schedule) + 1):
        options = []
        for start, (count, worst, before) in enumerate(best):
            error = amplification(schedule[start:stop], eps, first=start == 0)
            if error <= 1:
                options.append((count + 1, max(worst, error), (*before, stop - start)))
        best.append(min(options))
    return best[-1][-1]


def amplification(stages: Schedule, eps: float, first: bool) -> float:
    """The error of a segment's result, over the largest that is allowed.

    An error δ in r moves a small eigenvalue, and with it the result, by `s²·δ` relative to
    itself, s the slope of the segment's scalar map at 0; a negative eigenvalue, which rounding
    makes of 0, grows as much and more. In a first segment `‖r‖_F` is about 1, and rounding
    spreads over all entries: δ = eps/16 as measured. Later many singular values are near 1, and
    δ = eps/8. Allowed is `8·√eps`: 0.003 in float32, 0.7 in bfloat16. What is measured is less;
    see docs/design.md. A single stage carries nothing and is the direct form's own.

    Args:
      stages: Those of the segment.
      eps: Machine epsilon of the products' operands.
      first: Whether x comes straight from the normalisation.

    Returns:
      At most 1 where the segment is stable.
    """
    if len(stages) == 1:
        return 0.0
    slope = math.prod(stage[0] for stage in stages)
    return slope**2 * (eps / 16 if first else eps / 8) / (8 * math.sqrt(eps))
