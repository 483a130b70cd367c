"""The losses of every entry of a task, in percent of the reference's, with intervals."""

import statistics
from pathlib import Path

from benchmarks.pictures import begin, keep
from benchmarks.track.entry import find
from benchmarks.track.tables import MARGIN, REFERENCE, compare_all, finals, load

COLORS = {
    "better": "#0072b2",
    "worse": "#d55e00",
    "equal": "#009e73",
    "undecided": "#808080",
}


def draw(folder: Path) -> None:
    """One line an entry, the best on top; the band is the margin of equivalence.

    An entry that diverges with any seed is in the table alone.
    """
    records = load(folder.parents[1].name, folder.name)
    mean, compared = statistics.mean(finals(records[REFERENCE])), compare_all(records)
    compared = {name: c for name, c in compared.items() if c.verdict in COLORS}
    title = f"{records[REFERENCE]['task']}: the loss of every optimizer, minus Muon's"
    figure, axes = begin(title, height=1.4 + 0.24 * len(compared))
    axes.axvspan(-100 * MARGIN, 100 * MARGIN, color="#eeeeee", lw=0)
    axes.axvline(0, color="black", lw=0.8)
    order = sorted(compared, key=lambda name: -compared[name].gap.mean)
    for y, name in enumerate(order):
        x, half = (100 * value / mean for value in compared[name].gap)
        color = COLORS[compared[name].verdict]
        axes.errorbar(x, y, xerr=half, fmt="o", ms=4, capsize=2, color=color)
    axes.set_yticks(range(len(order)), [find(name).title for name in order])
    axes.set_xlabel("test loss minus Muon's, in %: mean of 16 paired seeds, 95 % interval")
    for verdict, color in COLORS.items():
        if any(found.verdict == verdict for found in compared.values()):
            text = f"equal within {100 * MARGIN:.0f} %" if verdict == "equal" else verdict
            axes.plot([], [], "o", color=color, label=text)
    figure.legend(loc="outside lower center", ncols=4)
    keep(figure, folder, "losses")
