"""A picture of both measurements: losses by rate, and changes of activations by width."""

from collections.abc import Sequence
from pathlib import Path
from statistics import mean

from matplotlib.axes import Axes
from matplotlib.axis import Axis
from matplotlib.ticker import NullLocator

from benchmarks.pictures import RAMP, add_legend, begin, keep
from benchmarks.widths.tables import best_rate, by_rule, changes

BLOCKS, HEAD = "#d55e00", "#0072b2"
STAR = {"color": "black", "marker": "*", "ls": ":", "ms": 9}


def draw(folder: Path, record: dict) -> None:
    """`widths.png` and `.svg`."""
    rules = by_rule(record)
    figure, panels = begin(_title(rules), 2, len(rules), height=5.8, sharey="row")
    for (above, below), (rule, searches) in zip(panels.T, rules.items()):
        above.set_title(rule)
        _draw_losses(above, searches)
        _draw_changes(below, record, rule)
    panels[0][0].set_ylabel("held-out loss\n(nats per byte)")
    panels[1][0].set_ylabel("change of activations\nover that at the least width")
    add_legend(figure, 3)
    keep(figure, folder, "widths")


def _title(rules: dict[str, list[dict]]) -> str:
    """How far the best rate moves under every rule."""
    moves = {r: best_rate(found[-1]) / best_rate(found[0]) for r, found in rules.items()}
    first, *_, last = (found["width"] for found in next(iter(rules.values())))
    adam_rms, others = moves.pop("adam_rms"), moves.values()
    return (
        f"From width {first} to {last} the best rate becomes {adam_rms:.2f} of itself\n"
        f"under adam_rms, {min(others):.2f} to {max(others):.2f} under the others"
    )


def _draw_losses(axes: Axes, searches: Sequence[dict]) -> None:
    """A line for every width, and one through the best rates."""
    for color, found in zip(RAMP, searches):
        rates = [row["rate"] for row in found["rates"]]
        losses = [mean(row["losses"]) for row in found["rates"]]
        axes.plot(
            rates, losses, "o-", ms=3, color=color, label=f"loss at width {found['width']}"
        )
    lowest = [min(mean(row["losses"]) for row in found["rates"]) for found in searches]
    axes.plot([*map(best_rate, searches)], lowest, **STAR, label="best rate, by a parabola")
    axes.set(xscale="log", xlabel="learning rate")
    tried = sorted({row["rate"] for found in searches for row in found["rates"]})
    _tick(axes.xaxis, tried[::2])


def _draw_changes(axes: Axes, record: dict, rule: str) -> None:
    """The changes at every width over those at the least; a line that is level transfers."""
    label = "residual stream, only Muon trains"
    widths, found = changes(record, rule, trained=False)
    for name, values in found.items():
        if name != "logits":
            ratios = [value / values[0] for value in values]
            axes.plot(widths, ratios, "o-", ms=3, color=BLOCKS, label=label)
    _, found = changes(record, rule, trained=True)
    ratios = [value / found["logits"][0] for value in found["logits"]]
    axes.plot(widths, ratios, "v:", ms=4, color=HEAD, label="logits, Adam trains the head")
    axes.set(xscale="log", yscale="log", xlabel="width")
    _tick(axes.xaxis, widths)
    _tick(axes.yaxis, [1, 2, 3])


def _tick(axis: Axis, places: Sequence[float]) -> None:
    """Ticks at these places alone, as numbers."""
    axis.set_ticks(places, [f"{place:g}" for place in places])
    axis.set_minor_locator(NullLocator())
