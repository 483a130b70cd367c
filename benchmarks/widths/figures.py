"""A picture of both measurements: losses by rate, and changes of activations by width."""

from collections.abc import Sequence
from pathlib import Path
from statistics import mean

from matplotlib.axes import Axes

from benchmarks.pictures import add_legend, begin, keep, write_ticks
from benchmarks.widths.tables import best_rate, by_rule, changes

RAMP = ("#cbb4e4", "#9b6fd3", "#6f3bb3", "#431c7a")  # of one hue, the wider the darker
BLOCKS = "#d55e00"
HEAD = "#0072b2"


def draw(folder: Path, record: dict) -> None:
    """`widths.png` and `.svg`."""
    rules = by_rule(record)
    figure, panels = begin(_title(rules), 2, len(rules), height=5.6, sharey="row")
    for (above, below), (rule, searches) in zip(panels.T, rules.items()):
        _draw_losses(above, searches)
        above.set_title(f"`{rule}`".replace("`", ""))
        _draw_changes(below, record, rule)
    panels[0][0].set_ylabel("held-out loss (nats per byte)")
    panels[1][0].set_ylabel("change, that of width 64 = 1")
    add_legend(figure, 4)
    keep(figure, folder, "widths")


def _title(rules: dict[str, Sequence[dict]]) -> str:
    """How far the best rate moves under every rule."""
    moves = {r: best_rate(found[-1]) / best_rate(found[0]) for r, found in rules.items()}
    return str(moves)


def _draw_losses(axes: Axes, searches: Sequence[dict]) -> None:
    """A line for every width, and the best rate of the parabola as a star."""
    for color, found in zip(RAMP, searches):
        rates = [row["rate"] for row in found["rates"]]
        losses = [mean(row["losses"]) for row in found["rates"]]
        axes.plot(rates, losses, "o-", ms=3, color=color, label=f"width {found['width']}")
        axes.plot(best_rate(found), min(losses), "*", ms=11, color=color, mec="black", mew=0.6)
    axes.set(xscale="log", xlabel="learning rate")
    write_ticks(axes.xaxis)


def _draw_changes(axes: Axes, record: dict, rule: str) -> None:
    """The changes over those of the narrowest, and the slope of a power of the width."""
    widths, found = changes(record, rule, trained=False)
    for values in found.values():
        ratios = [value / values[0] for value in values]
        axes.plot(widths, ratios, "o-", ms=3, color=BLOCKS, label="Muon alone")
    _, found = changes(record, rule, trained=True)
    ratios = [value / found["logits"][0] for value in found["logits"]]
    axes.plot(widths, ratios, "v:", ms=4, color=HEAD, label="logits, with the head under Adam")
    axes.set(xscale="log", yscale="log", xlabel="width")
    axes.set_xticks(widths, map(str, widths))
