"""The result of a comparison: times, judgements, device and versions."""

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
    """The time of a method on matrices of one shape.

    Attributes:
      method: The method's name.
      count: The number of matrices of this shape.
      m: The smaller dimension of the matrices.
      n: The larger dimension of the matrices.
      dtype: The dtype of the matrices.
      ms: Milliseconds per matrix: one sample for each turn, or one estimate, or nothing.
      memory: Temporary memory, divided by the memory of the matrices; None if not compiled.
      compile_s: Seconds to compile; None if not compiled.
      note: "" for a measured time; else how it was estimated, or why there is none.
      at_least: Whether the estimate is incomplete, so that the time may be longer.
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
    """The accuracy of a method's result O for one matrix M, in float64.

    All measures are None if O is not finite.

    Attributes:
      method: The method's name.
      leaf: The path of the matrix's leaf; "" for a Gaussian matrix.
      m: The smaller dimension of the matrix.
      n: The larger dimension of the matrix.
      dtype: The dtype of the matrix.
      error: `‖O − polar‖_F / ‖polar‖_F`. The best error is 0.
      band: The smallest and the largest singular value of `Uᵀ·O·V`, where `U·diag(σ)·Vᵀ` is the
        thin SVD of M. The best band is 1 and 1.
      alignment: `⟨M, O⟩/‖M‖_*`. It is 1 for the polar factor.
      orthogonality: The root mean square of `σ² − 1` over the singular values σ of `Uᵀ·O·V`.
        The best value is 0.
      reached: The fraction of M's singular vector pairs (u, v) for which `uᵀ·O·v` is within 1/3
        of 1. The best fraction is 1.
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
    """The comparison of polar methods on the same matrices. `print` shows it as a table.

    Attributes:
      times: One `Time` for every shape and method.
      judgements: One `Judgement` for every method and sampled matrix; empty with a target.
      made_by: Device, versions and date.
      target: The device that times are estimated for; None if they were measured here.
      interrupted: Whether the comparison was interrupted and is incomplete.
    """

    times: tuple[Time, ...]
    judgements: tuple[Judgement, ...]
    made_by: dict[str, Any] = field(default_factory=dict)
    target: str | None = None
    interrupted: bool = False

    @property
    def methods(self) -> tuple[str, ...]:
        """The names of the methods, in the given order."""
        return tuple(dict.fromkeys(time.method for time in self.times))

    def seconds(self, method: str) -> float | None:
        """Return a method's seconds for all matrices; None if a shape has no time."""
        shapes = {(time.m, time.n, time.dtype) for time in self.times}
        totals = [time.total_s for time in self.times if time.method == method]
        known = [seconds for seconds in totals if seconds is not None]
        return sum(known) if known and len(known) == len(shapes) else None

    def ratio(self, above: str, below: str) -> float | None:
        """Return the time of one method for all matrices, divided by that of another method.

        This is the median of the ratios in each turn. It is None if a time is missing.
        """
        if self.seconds(above) is None or self.seconds(below) is None:
            return None
        return statistics.median(ratios(*map(self._turns, (above, below))))

    def _turns(self, method: str) -> list[float]:
        """Return a method's milliseconds for all matrices in each turn."""
        its = [time for time in self.times if time.method == method]
        turns = range(min(len(time.ms) for time in its))
        return [sum(time.count * time.ms[turn] for time in its) for turn in turns]

    @property
    def verdict(self) -> str:
        """One sentence that names the fastest method here, and its error."""
        return write_verdict(self)

    def __str__(self) -> str:
        parts = [write_table(self), write_leaves(self), self.verdict]
        return "\n\n".join(part for part in parts if part)

    def to_dict(self) -> dict[str, Any]:
        """Return the whole comparison and its verdict as a dict of JSON values."""
        return asdict(self) | {"verdict": self.verdict}

    @classmethod
    def from_dict(cls, found: dict[str, Any]) -> Comparison:
        """Make a comparison from what `to_dict` returned."""
        times = tuple(Time(**(row | {"ms": tuple(row["ms"])})) for row in found["times"])
        judgements = tuple(Judgement(**row) for row in found["judgements"])
        rest = {name: found[name] for name in ("made_by", "target", "interrupted")}
        return cls(times, judgements, **rest)

    def save(self, path: str | Path) -> None:
        """Write what `to_dict` returns to a JSON file."""
        Path(path).write_text(json.dumps(self.to_dict(), indent=1) + "\n")

    def plot(self) -> Figure:
        """Plot time and error of each method as a Matplotlib figure.

        Raises:
          ImportError: If Matplotlib is missing.
        """
        from muon_optax.comparison._picture import draw

        return draw(self)
