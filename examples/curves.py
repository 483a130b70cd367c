"""How training runs are shown: a table in the terminal, curves in a picture."""

import json
from dataclasses import asdict, dataclass, field
from pathlib import Path

import matplotlib

matplotlib.use("Agg")
import matplotlib.pyplot as plt
from rich.console import Console
from rich.table import Table

# Of Okabe and Ito's colours, which the colour-blind tell apart.
COLORS = {"adamw": "#0072b2", "adamw_two": "#56b4e9", "muon": "#d55e00"}
LINES = {"adamw": ":", "adamw_two": "--", "muon": "-"}
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
    """The held-out loss by step and by wall-clock; one colour and line per optimizer."""
    size = {"figsize": (8.5, 4.2), "layout": "constrained"}
    figure, (by_step, by_time) = plt.subplots(1, 2, sharey=True, **size)
    lines = {}
    for curve in curves:
        style = {"color": COLORS[curve.optimizer], "ls": LINES[curve.optimizer]}
        by_step.plot(curve.step, curve.loss, **style)
        lines[LABELS[curve.optimizer]] = by_time.plot(curve.seconds, curve.loss, **style)[0]
    for axes, xlabel in ((by_step, "step"), (by_time, "seconds of training")):
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
    by_step.set_title(title, loc="left", fontsize=10)
    by_time.legend(lines.values(), lines, frameon=False)
    _say_crossing(by_step, curves)
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=200)
    plt.close(figure)


def report(config, curves: list[Curve]) -> None:
    """Print the table, save the plot and the numbers; `config` is train_gpt.py's."""
    rows = [
        [
            f"{LABELS[c.optimizer]} (seed {c.seed})",
            f"{c.learning_rate:g}",
            f"{c.loss[-1]:.3f}",
            f"{1000 * c.seconds[-1] / c.step[-1]:.0f}",
        ]
        for c in curves
    ]
    print_table(
        f"Byte GPT, {config.steps} steps",
        ["optimizer", "learning rate", "nats per byte", "ms per step"],
        rows,
    )
    if not config.sweep:
        say_crossings(curves)
    picture = config.out / "curves.png"
    draw(picture, curves)
    numbers = config.out / "curves.json"
    numbers.write_text(json.dumps([curve.as_json() for curve in curves]) + "\n")
    print(f"Plot: {picture}\nNumbers: {numbers}")


def draw(picture: Path, curves: list[Curve]) -> None:
    """The curves by step and by wall-clock."""
    title = f"Byte GPT on the Python standard library, {curves[0].step[-1]} steps"
    if len({curve.seed for curve in curves}) == 1:
        title += ", one seed"
    save_picture(picture, title, "held-out loss (nats per byte)", curves)


def baseline(curves: list[Curve]) -> str | None:
    """The AdamW that Muon is compared with: the one with two rates, if it was trained."""
    trained = {curve.optimizer for curve in curves}
    return next((name for name in ("adamw_two", "adamw") if name in trained), None)


def crossings(curves: list[Curve], baseline: str | None) -> dict[int, int | None]:
    """Seed → the first step at which Muon is at the baseline's final loss, if it is."""
    ends = {c.seed: c.loss[-1] for c in curves if c.optimizer == baseline}
    muons = [c for c in curves if c.optimizer == "muon" and c.seed in ends]
    return {c.seed: c.steps_to(ends[c.seed]) for c in muons}


def say_crossings(curves: list[Curve]) -> None:
    """Print when Muon reached the final loss of each AdamW, seed by seed."""
    last = curves[0].step[-1]
    for name in ("adamw", "adamw_two"):
        for seed, step in crossings(curves, name).items():
            when = f"reaches it at step {step} of {last}" if step else "does not reach it"
            print(f"Final loss of {LABELS[name]} (seed {seed}): Muon {when}.")


def _say_crossing(axes, curves: list[Curve]) -> None:
    """Where Muon is at AdamW's final loss, in the seed where that is latest."""
    name = baseline(curves)
    steps = crossings(curves, name)
    if not steps or None in steps.values():
        return
    seed, step = max(steps.items(), key=lambda item: item[1])
    end = next(c.loss[-1] for c in curves if (c.optimizer, c.seed) == (name, seed))
    axes.plot([step, axes.get_xlim()[1]], [end] * 2, color="black", lw=0.8)
    axes.plot([step], [end], "o", color="black", ms=5)
    where = {"xytext": (0.04, 0.06), "textcoords": "axes fraction"}
    arrow = {"arrowstyle": "-", "lw": 0.8, "shrinkB": 4}
    of_two = " with two rates" if name == "adamw_two" else ""
    said = f"step {step}: Muon is\nat AdamW's final loss"
    axes.annotate(said, (step, end), arrowprops=arrow, **where)
    said = (
        f"Muon reaches the final loss of AdamW{of_two} by step {step} of {curves[0].step[-1]}"
    )
    axes.figure.suptitle(said, x=0.01, ha="left", weight="bold")
