"""The losses of every entry of a task, in percent of the reference's, with intervals."""

import statistics
from pathlib import Path

from benchmarks.pictures import begin, keep
from benchmarks.track import inference
from benchmarks.track.tables import LEVEL, MARGIN, REFERENCE, finals, load

COLORS = {"better": "#0072b2", "worse": "#d55e00", "neither": "#808080"}


def draw(folder: Path) -> None:
    """One line an entry, the best on top; the band is the margin of equivalence."""
    records = load(folder.parents[1].name, folder.name)
    title = f"{records[REFERENCE]['task']}: the loss of every optimizer, beside Muon's"
    reference = finals(records[REFERENCE])
    mean = statistics.mean(reference)
    found = {name: inference.compare(finals(r), reference) for name, r in records.items()}
    corrected = inference.correct({n: d.p for n, d in found.items() if n != REFERENCE})
    order = sorted(found, key=lambda name: -found[name].of.mean)
    figure, axes = begin(title, height=1.4 + 0.24 * len(order))
    axes.axvspan(-100 * MARGIN, 100 * MARGIN, color="#eeeeee", lw=0)
    axes.axvline(0, color="black", lw=0.8)
    for y, name in enumerate(order):
        gap = found[name].of
        told = corrected.get(name, 1.0) < LEVEL
        kind = ("worse" if gap.mean > 0 else "better") if told else "neither"
        x, half = (100 * value / mean for value in gap)
        axes.errorbar(x, y, xerr=half, fmt="o", ms=4, capsize=2, color=COLORS[kind])
    axes.set_yticks(range(len(order)), [records[name]["title"] for name in order])
    axes.set_xlabel("test loss less Muon's, % of it: mean of 16 paired seeds, 95 % interval")
    for kind, color in COLORS.items():
        label = (
            "not told apart from Muon" if kind == "neither" else f"{kind} than Muon, p < .01"
        )
        axes.plot([], [], "o", color=color, label=label)
    figure.legend(loc="outside lower center", ncols=3)
    keep(figure, folder, "losses")
