"""How training runs are shown: a table in the terminal, curves in a picture."""

from dataclasses import asdict, dataclass, field
from pathlib import Path

import matplotlib

matplotlib.use("Agg")
import matplotlib.pyplot as plt
from rich.console import Console
from rich.table import Table

COLORS = {"adamw": "#8a8f98", "adamw_two": "#4c6ef5", "muon": "#d9480f"}
LABELS = {"adamw": "AdamW", "adamw_two": "AdamW, two rates", "muon": "Muon"}


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

    def loss_within(self, seconds: float) -> float:
        """The last loss evaluated within so many seconds of training."""
        return [x for s, x in zip(self.seconds, self.loss) if s <= seconds][-1]

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
    figure, (by_step, by_time) = plt.subplots(1, 2, figsize=(11, 4.2), sharey=True)
    for curve in curves:
        style = {"color": COLORS[curve.optimizer], "lw": 1.6, "alpha": 0.8}
        by_step.plot(curve.step, curve.loss, **style)
        by_time.plot(curve.seconds, curve.loss, **style)
    for axes, xlabel in ((by_step, "step"), (by_time, "seconds of training steps")):
        axes.set_xlabel(xlabel)
        axes.set_xlim(left=0)
        axes.grid(alpha=0.25)
        axes.spines[["top", "right"]].set_visible(False)
    low, early = (
        min(min(c.loss) for c in curves),
        max(c.loss[len(c.loss) // 20] for c in curves),
    )
    by_step.set_ylim(low - 0.08 * (early - low), early)
    by_step.set_ylabel(ylabel)
    _label(by_time, curves)
    _mark_crossing(by_step, curves)
    figure.suptitle(title, x=0.07, ha="left", fontsize=11)
    figure.tight_layout()
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=160)
    plt.close(figure)


def _label(axes, curves: list[Curve]) -> None:
    """Name each colour once, to the right of where its curves end, in place of a legend."""
    ends = {}
    for name in LABELS:
        of_it = [c.loss[-1] for c in curves if c.optimizer == name]
        if of_it:
            ends[name] = sum(of_it) / len(of_it)
    low, high = axes.get_ylim()
    at = low
    for name, end in sorted(ends.items(), key=lambda item: item[1]):
        at = max(end, at)
        style = {"color": COLORS[name], "fontweight": "bold", "va": "center"}
        axes.annotate(LABELS[name], (1.02, at), xycoords=("axes fraction", "data"), **style)
        at += 0.055 * (high - low)  # the next one not on top of this


def crossings(curves: list[Curve], baseline: str = "adamw") -> dict[int, int | None]:
    """Seed → the first step at which Muon is at the baseline's final loss, if it is."""
    ends = {c.seed: c.loss[-1] for c in curves if c.optimizer == baseline}
    muons = [c for c in curves if c.optimizer == "muon" and c.seed in ends]
    return {c.seed: c.steps_to(ends[c.seed]) for c in muons}


def _mark_crossing(axes, curves: list[Curve]) -> None:
    """Where Muon passes AdamW's end of the same seed, in the seed where that is latest."""
    steps = {seed: step for seed, step in crossings(curves).items() if step}
    if not steps:
        return
    seed, step = max(steps.items(), key=lambda item: item[1])
    end = next(c.loss[-1] for c in curves if (c.optimizer, c.seed) == ("adamw", seed))
    axes.plot([step, axes.get_xlim()[1]], [end] * 2, ":", color="black", lw=1)
    axes.plot([step], [end], "o", color="black", ms=4)
    label = f"AdamW's end,\nat step {step}"
    offset = {"xytext": (-6, -24), "textcoords": "offset points", "ha": "right"}
    axes.annotate(label, (step, end), fontsize=9, **offset)
