"""Knows how training runs are shown: a table in the terminal, curves in a picture."""

from dataclasses import asdict, dataclass, field
from pathlib import Path

import matplotlib

matplotlib.use("Agg")
import matplotlib.pyplot as plt
from rich.console import Console
from rich.table import Table

COLORS = {"adamw": "#8a8f98", "muon": "#d9480f"}
LABELS = {"adamw": "AdamW", "muon": "Muon"}


@dataclass
class Curve:
    """One run: what it was, and its loss at the steps where it was evaluated."""

    optimizer: str
    learning_rate: float
    seed: int
    step: list[int] = field(default_factory=list)
    seconds: list[float] = field(default_factory=list)  # of training steps alone
    loss: list[float] = field(default_factory=list)  # held-out

    def steps_to(self, loss: float) -> int | None:
        """The first evaluated step at or below a loss."""
        return next((s for s, x in zip(self.step, self.loss) if x <= loss), None)

    def as_json(self) -> dict:
        """Plain numbers, rounded to what the measurement can tell."""
        record = asdict(self)
        record["seconds"] = [round(s, 3) for s in self.seconds]
        record["loss"] = [round(x, 5) for x in self.loss]
        return record


def print_table(title: str, columns: list[str], rows: list[list[str]]) -> None:
    """Rows of text under their column names."""
    table = Table(title=title, title_justify="left")
    for number, column in enumerate(columns):
        table.add_column(column, justify="left" if number == 0 else "right")
    for row in rows:
        table.add_row(*row)
    Console().print(table)


def save_picture(path: Path, title: str, ylabel: str, curves: list[Curve]) -> None:
    """The held-out loss by step and by wall-clock; one colour per optimizer."""
    figure, (by_step, by_time) = plt.subplots(1, 2, figsize=(10, 4), sharey=True)
    for curve in curves:
        style = {"color": COLORS[curve.optimizer], "lw": 1.8, "alpha": 0.85}
        by_step.plot(curve.step, curve.loss, **style)
        by_time.plot(curve.seconds, curve.loss, **style)
    for axes, xlabel in ((by_step, "step"), (by_time, "seconds of training steps")):
        axes.set_xlabel(xlabel)
        axes.grid(alpha=0.25)
        axes.spines[["top", "right"]].set_visible(False)
    by_step.set_ylabel(ylabel)
    _label_ends(by_step, curves)
    low, high = min(min(c.loss) for c in curves), max(c.loss[1] for c in curves)
    by_step.set_ylim(low - 0.05 * (high - low), high)
    figure.suptitle(title, x=0.07, ha="left", fontsize=11)
    figure.tight_layout()
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=160)
    plt.close(figure)


def _label_ends(axes, curves: list[Curve]) -> None:
    """Name each colour once, where its curve ends, in place of a legend."""
    for optimizer in {curve.optimizer: None for curve in curves}:
        curve = next(c for c in curves if c.optimizer == optimizer)
        axes.annotate(
            LABELS[optimizer],
            (curve.step[-1], curve.loss[-1]),
            xytext=(-4, 10),
            textcoords="offset points",
            ha="right",
            color=COLORS[optimizer],
            fontweight="bold",
        )
