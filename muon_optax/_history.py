"""`History`: all records of a training run, kept on the host, and their plot."""

from __future__ import annotations  # so that help() shows short types

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np

from muon_optax._checks import check_choice
from muon_optax._readers import latest

if TYPE_CHECKING:
    from matplotlib.figure import Figure

# Axis labels; none of the measures has a unit.
_LABELS = {
    "alignment": "fraction of descent kept",
    "polar_error": "distance to polar factor",
    "orthogonality_error": "rms of 1 - σ²",
    "operator_norm": "largest singular value",
    "update_rms": "rms of entries",
    "momentum_stable_rank": "directions",
    "gradient_cosine": "cosine with momentum",
}
_BLUE, _GREEN = "#0072B2", "#009E73"  # of Okabe and Ito, safe for the colour-blind


@dataclass
class History:
    """All records that `record_updates` made in a run.

    Attributes:
      steps: The recorded steps, ascending.
      values: Path → measure → one entry per step: a float for a leaf with one matrix, else a
        list of floats `[batch]`.

    Example:
      >>> import jax.numpy as jnp
      >>> from muon_optax import muon
      >>> params = {"w": jnp.eye(3)}
      >>> tx = muon(0.02, record_every=2)
      >>> state, history = tx.init(params), History()
      >>> for _ in range(4):
      ...     _, state = tx.update(params, state, params)
      ...     _ = history.add(state)
      >>> history.steps, history.values["w"]["gradient_cosine"]
      ([0, 2], [1.0, 1.0])
    """

    steps: list[int] = field(default_factory=list)
    values: dict[str, dict[str, list[Any]]] = field(default_factory=dict)

    def add(self, state: Any) -> bool:
        """Append the last record in a state, if it is new.

        Args:
          state: As in `latest`.

        Returns:
          Whether a record was appended.

        Raises:
          ValueError: As in `latest`, or if the record has other leaves than this history.
        """
        step, measured = latest(state)
        if step <= max(self.steps, default=-1):
            return False
        if self.steps and {*measured} != {*self.values}:
            raise ValueError(
                f"this history has the leaves {[*self.values]}, but the record has "
                f"{[*measured]}; use a new History() for another optimizer"
            )
        self.steps.append(step)
        for path, of_leaf in measured.items():
            for name, found in of_leaf.items():
                of_measure = self.values.setdefault(path, {}).setdefault(name, [])
                of_measure.append(np.asarray(found).tolist())
        return True

    def to_dict(self) -> dict[str, Any]:
        """Return a copy to save as JSON. `History(**saved)` makes a history from it again."""
        return asdict(self)

    def plot(
        self,
        measures: Sequence[str] | None = None,
        healthy: Mapping[str, tuple[float, float]] | None = None,
    ) -> Figure:
        """Plot each measure in its own panel, as median and range over all matrices by step.

        Values that are not finite are left out.

        Args:
          measures: Names of measures, or one name; None means all that were recorded.
          healthy: Measure → lowest and highest healthy value. The range between is shaded.

        Returns:
          A Matplotlib figure; save it with `.savefig("run.png")`.

        Raises:
          ValueError: If there are no records, or a measure was not recorded.
          ImportError: If Matplotlib is missing.
        """
        try:
            from matplotlib.figure import Figure
        except ImportError as error:
            raise ImportError(
                "History.plot needs matplotlib: pip install matplotlib"
            ) from error
        if not self.values:
            raise ValueError("nothing was recorded; call history.add(state) after a step")
        recorded = [*next(iter(self.values.values()))]
        names = [measures] if isinstance(measures, str) else measures
        names = names or sorted(recorded, key=[*_LABELS].index)
        for name in names:
            check_choice("measure", name, recorded)
        columns = min(3, len(names))
        rows = -(-len(names) // columns)
        figure = Figure(figsize=(4 * columns, 0.4 + 2.6 * rows), layout="constrained")
        shown = {}
        for number, name in enumerate(names, 1):
            axes = figure.add_subplot(rows, columns, number)
            shown |= self._draw(axes, name, (healthy or {}).get(name))
        figure.legend(
            shown.values(), shown, loc="outside lower center", ncols=columns, frameon=False
        )
        return figure

    def _draw(
        self, axes: Any, name: str, healthy: tuple[float, float] | None
    ) -> dict[str, Any]:
        """Draw one measure, and return the entries for the legend."""
        of_leaves = [np.reshape(of[name], (len(self.steps), -1)) for of in self.values.values()]
        values = np.ma.masked_invalid(np.concatenate(of_leaves, axis=1))
        low, median, high = values.min(1), np.ma.median(values, axis=1), values.max(1)
        (line,) = axes.plot(self.steps, median, color=_BLUE, lw=1.8)
        band = axes.fill_between(self.steps, low, high, color=_BLUE, alpha=0.25, lw=0)
        shown = {f"median of {values.shape[1]} matrices": line, "their range": band}
        if healthy is not None:
            shown["healthy"] = axes.axhspan(*healthy, color=_GREEN, alpha=0.15, lw=0)
        axes.set_title(name, loc="left", fontsize=11)
        axes.set(xlabel="step", ylabel=_LABELS[name])
        axes.grid(alpha=0.25)
        axes.spines[["top", "right"]].set_visible(False)
        return shown
