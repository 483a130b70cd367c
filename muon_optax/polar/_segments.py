"""When Newton-Schulz computes a new Gram matrix: at every stage, or as rarely as it can.

Updating the Gram matrix after a stage takes three products of m × m matrices. Computing a new
one takes two products with the long side n. So updating is cheaper if `2·n > 3·m`.
"""

import functools
import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import jax.numpy as jnp
from jax.typing import DTypeLike

from muon_optax._operations import count_flops
from muon_optax._platform import Platform
from muon_optax.coefficients import Schedule
from muon_optax.polar._method import MethodPlan

Form = Literal["auto", "direct", "gram"]


@dataclass(frozen=True, kw_only=True)
class NewtonSchulzPlan(MethodPlan):
    """How `NewtonSchulz` processes an m × n matrix, m ≤ n; `print` it.

    A segment is a run of stages on one Gram matrix `r = x·xᴴ`. Each stage multiplies q by
    `h(r)` and r by `h(r)²`; the segment ends with `x ← q·x`. In the direct form each segment
    has one stage. In the Gram form a segment has several.

    Attributes:
      m: The short side.
      n: The long side.
      dtype: The dtype of the products' operands; they accumulate in float32 or wider.
      segments: The number of stages in each segment, first to last.
      direct_flops: Operations of the direct form.
      is_joined: Whether the matrix shares products with other matrices.

    Example:
      >>> from muon_optax import NewtonSchulz
      >>> print(NewtonSchulz().plan(768, 3072))
      768 × 3072 in float32: Gram form, 5 stages, 22.6 GFLOP (direct form: 40.8)
    """

    m: int
    n: int
    dtype: str
    segments: tuple[int, ...]
    direct_flops: int
    is_joined: bool

    def __str__(self) -> str:
        stages = sum(self.segments)
        carries = len(self.segments) < stages
        form = "Gram form" if carries else "direct form"
        parts = " + ".join(map(str, self.segments)) if carries else stages
        other = f" (direct form: {self.direct_flops / 1e9:.3g})" if carries else ""
        what = f"{form}, {parts} stage{'s' * (stages > 1)}, {self.flops / 1e9:.3g} GFLOP"
        joined = ", joined" if self.is_joined else ""
        return f"{self.m} × {self.n} in {self.dtype}: {what}{other}{joined}"


# Matrices share products if their short side is at most this long. A product of larger matrices
# fills the device alone, and joining would only cost memory traffic.
_JOINED_SIDE: dict[Platform, int] = {"cpu": 128, "gpu": 1024, "tpu": 1024}


def make_plan(
    schedule: Schedule,
    m: int,
    n: int,
    operands: DTypeLike,
    form: Form,
    dtype: DTypeLike,
    platform: Platform,
) -> NewtonSchulzPlan:
    """Return the plan for an m × n matrix, m ≤ n. `operands` is the dtype of the operands."""
    eps = float(jnp.finfo(operands).eps)
    is_joined = m <= _JOINED_SIDE[platform]
    direct = form == "direct" or (form == "auto" and 2 * n <= 3 * m)
    segments = (1,) * len(schedule) if direct else _fewest_segments(schedule, eps)
    narrows = jnp.dtype(operands) == jnp.bfloat16 and jnp.dtype(dtype).itemsize <= 4
    return NewtonSchulzPlan(
        flops=sum(count_flops(schedule, m, n, segments)),
        bucket=(m, jnp.dtype(dtype).name, direct) if is_joined else None,
        wire_dtype="bfloat16" if narrows else None,
        team_bytes=_count_team_bytes(schedule, segments, m, jnp.dtype(operands).itemsize),
        m=m,
        n=n,
        dtype=jnp.dtype(operands).name,
        segments=segments,
        direct_flops=sum(count_flops(schedule, m, n, (1,) * len(schedule))),
        is_joined=is_joined,
    )


def count_gathers(schedule: Schedule, segments: Sequence[int]) -> list[int]:
    """Count how often a team gathers an m × m matrix in each segment, except the Gram matrix.

    It gathers every `h(r)`, every updated r, and q once. A polynomial with more than two powers
    of r also needs the highest of the powers computed.
    """
    found, start = [], 0
    for count in segments:
        stages = schedule[start : start + count]
        powers = sum(len(stage) > 3 for stage in stages)
        found.append((2 * count if count > 1 else 1) + powers)
        start += count
    return found


def _count_team_bytes(
    schedule: Schedule, segments: Sequence[int], m: int, itemsize: int
) -> float:
    """Return the plan's `team_bytes`. A Gram matrix is summed in float32, then rounded."""
    gathers = sum(count_gathers(schedule, segments)) + len(segments)
    return float(m * m * (len(segments) * max(4, itemsize) + gathers * itemsize))


@functools.lru_cache
def _fewest_segments(schedule: Schedule, eps: float) -> tuple[int, ...]:
    """Return the fewest stable segments, with the smallest maximum of `amplification`."""
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
    """Return the error of a segment's result, divided by the largest allowed error.

    An error δ in r causes a relative error `s²·δ` of the result at small eigenvalues. Here s is
    the slope of the segment's scalar map at 0. Measurements gave δ = eps/16 in the first
    segment, where `‖r‖_F` is about 1, and eps/8 later, where many singular values are near 1.
    The limit is `8·√eps`: 0.003 in float32, 0.7 in bfloat16; see docs/design.md. A single stage
    is the direct form and has no such error.
    """
    if len(stages) == 1:
        return 0.0
    slope = math.prod(stage[0] for stage in stages)
    return slope**2 * (eps / 16 if first else eps / 8) / (8 * math.sqrt(eps))
