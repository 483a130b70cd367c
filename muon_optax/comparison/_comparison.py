"""What a comparison found: times, judgements, and where they come from."""

from __future__ import annotations  # so that help() shows short types

import json
import statistics
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from muon_optax.comparison._table import write_leaves, write_table
from muon_optax.comparison._timing import ratios
from muon_optax.comparison._verdict import write_verdict

if TYPE_CHECKING:
    from matplotlib.figure import Figure


@dataclass(frozen=True)
class Time:
    """How long a method takes on matrices of one shape.

    Attributes:
      method: Its name.
      count: How many matrices of this shape there are.
      m: The shorter side.
      n: The longer side.
      dtype: Of the matrices.
      ms: Milliseconds a matrix: a measured sample for each turn, or one estimate; empty if
        there is none.
      memory: Temporary memory over that of the matrices; None if it was not compiled.
      compile_s: Seconds to compile; None if it was not compiled.
      note: "" if it was measured; else how the time was estimated, or why there is none.
      at_least: Whether the estimate leaves something out, and it may take longer.
    """

    method: str
    count: int
    m: int
    n: int
    dtype: str
    ms: tuple[float, ...]
    memory: float | None = None
    compile_s: float | None = None
    note: str = ""
    at_least: bool = False

    @property
    def total_s(self) -> float | None:
        """Seconds for all matrices of the shape, one after another; None without a time."""
        return self.count * statistics.median(self.ms) / 1000 if self.ms else None


@dataclass(frozen=True)
class Judgement:
    """How near a method's result is to the polar factor of one matrix, in float64.

    Attributes:
      method: Its name.
      leaf: The path of the leaf that the matrix is of; "" for a Gaussian matrix.
      m: The shorter side.
      n: The longer side.
      dtype: Of the matrix.
      error: `‖O − polar‖_F / ‖polar‖_F`, 0 at best; None, like the others, if O is not finite.
      band: The smallest and the largest singular value of O between the matrix's row and column
        space, both 1 at best.
      alignment: `⟨M, O⟩/‖M‖_*`, 1 at best; above it only where singular values of O are.
      orthogonality: The root mean square of `σ² − 1` over these singular values, 0 at best.
      reached: The share of M's singular directions that O keeps with a value within a third
        of 1; 1 at best.
    """

    method: str
    leaf: str
    m: int
    n: int
    dtype: str
    error: float | None
    band: tuple[float, float] | None
    alignment: float | None
    orthogonality: float | None
    reached: float | None


@dataclass(frozen=True)
class Comparison:
    """Polar methods compared on the same matrices; `print` it.

    Attributes:
      times: One for every shape and method.
      judgements: One for every method and matrix that was judged; none of a target that is not
        there.
      made_by: Device, versions and date.
      target: The processor that times are estimated for; None if they were measured here.
      interrupted: Whether the comparison was stopped; what was done until then is here.
    """

    times: tuple[Time, ...]
    judgements: tuple[Judgement, ...]
    made_by: dict[str, Any] = field(default_factory=dict)
    target: str | None = None
    interrupted: bool = False

    @property
    def methods(self) -> tuple[str, ...]:
        """The names, in the order in which they were given."""
        return tuple(dict.fromkeys(time.method for time in self.times))

    def seconds(self, method: str) -> float | None:
        """For all matrices of all shapes; None if a time is missing."""
        shapes = {(time.m, time.n, time.dtype) for time in self.times}
        totals = [time.total_s for time in self.times if time.method == method]
        known = [seconds for seconds in totals if seconds is not None]
        return sum(known) if known and len(known) == len(shapes) else None

    def ratio(self, above: str, below: str) -> float | None:
        """How many times as long one method takes for all matrices as another.

        The median over the turns that both took; None if a time is missing.
        """
        if self.seconds(above) is None or self.seconds(below) is None:
            return None
        return statistics.median(ratios(*map(self._turns, (above, below))))

    def _turns(self, method: str) -> list[float]:
        """Milliseconds for all matrices, in each turn that all shapes had."""
        its = [time for time in self.times if time.method == method]
        turns = range(min(len(time.ms) for time in its))
        return [sum(time.count * time.ms[turn] for time in its) for turn in turns]

    @property
    def verdict(self) -> str:
        """One sentence: which method to take here, and what it costs."""
        return write_verdict(self)

    def __str__(self) -> str:
        parts = [write_table(self), write_leaves(self), self.verdict]
        return "\n\n".join(part for part in parts if part)

    def to_dict(self) -> dict[str, Any]:
        """All of it, as JSON has it."""
        return asdict(self) | {"verdict": self.verdict}

    @classmethod
    def from_dict(cls, found: dict[str, Any]) -> Comparison:
        """The inverse of `to_dict`, of JSON, too."""
        times = tuple(Time(**(row | {"ms": tuple(row["ms"])})) for row in found["times"])
        judgements = tuple(Judgement(**row) for row in found["judgements"])
        rest = {name: found[name] for name in ("made_by", "target", "interrupted")}
        return cls(times, judgements, **rest)

    def save(self, path: str | Path) -> None:
        """Write it as JSON."""
        Path(path).write_text(json.dumps(self.to_dict(), indent=1) + "\n")

    def plot(self) -> Figure:
        """A picture of time and error, a bar for each method; needs matplotlib.

        Raises:
          ImportError: With what to install, if matplotlib is missing.
        """
        from muon_optax.comparison._picture import draw

        return draw(self)
