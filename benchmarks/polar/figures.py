"""Figures of time by size and error by time, from the JSON of `python -m benchmarks polar`."""

import math
from pathlib import Path

import numpy as np
from matplotlib.figure import Figure

from benchmarks.pictures import add_legend, begin, keep, look, write_ticks
from benchmarks.polar.contenders import STEPS
from benchmarks.polar.studies import OURS, SIZES
from benchmarks.polar.tables import by_contender
from muon_optax.comparison._timing import ratios, spread

COMPARED = {
    "qdwh": "QDWH",
    "svd": "SVD",
    "polar_express q=8": "Polar Express, 8 steps",
    "optax.contrib": "optax.contrib",
    OURS: "Newton-Schulz (default)",
    "fast": "fast (preset)",
}
LINES = {
    "taylor2": "Taylor, degree 5",
    "taylor4": "Taylor, degree 9",
    "jordan": "Jordan",
    "polar_express": "Polar Express",
}
POINTS = {
    "fast": "fast (preset)",
    "near_exact": "near_exact (preset)",
    "svd": "SVD",
    "qdwh": "QDWH",
}
CASES = {
    "momentum, 128×512": {"m": 128, "n": 512, "spectrum": "momenta", "dtype": "float32"},
    "Gaussian, 512×512": {"m": 512, "n": 512, "spectrum": "gaussian", "dtype": "float32"},
}
COLUMNS = (*SIZES[:-1], None, SIZES[-1])  # squares, a gap, and what is wide
SMALL = 3e-3  # an error


def time_by_size(record: dict) -> Figure:
    """Medians of the times over Newton-Schulz's, and the SVD's range."""
    found = by_contender(r for r in record["sizes"] if r["dtype"] == "float32")
    over = {name: _over(found.get(name, {}), found.get(OURS, {})) for name in COMPARED}
    low, high = np.nanmin(over["svd"][1]), np.nanmax(over["svd"][1])
    title = (
        f"In the median the SVD takes {low:.2g} to {high:.2g} times as long as Newton-Schulz"
    )
    figure, axes = begin(title, height=4.4)
    for name, label in COMPARED.items():
        axes.plot(over[name][1], **look(label))
    axes.vlines(range(len(COLUMNS)), over["svd"][0], over["svd"][2], color="black", lw=1)
    axes.set(yscale="log", xlabel="matrix, float32")
    axes.set_ylabel("median time over Newton-Schulz's;\nof the SVD the range, too")
    names = {at: "{}×{}".format(*size) for at, size in enumerate(COLUMNS) if size}
    axes.set_xticks([*names], names.values())
    write_ticks(axes.yaxis)
    add_legend(figure, 3)
    return figure


def error_by_time(record: dict) -> Figure:
    """Families as lines from few steps to many; presets and decompositions as points."""
    cases = {
        title: [r for r in record["accuracy"] if case.items() <= r.items()]
        for title, case in CASES.items()
    }
    wide, square = map(_share_of_svd, cases.values())
    title = (
        f"Newton-Schulz reaches an error below {SMALL:.1%} in {wide:.0%} of the SVD's time\n"
        f"on a wide momentum and in {square:.0%} on a square matrix"
    )
    figure, panels = begin(title, 1, 2, height=5, sharey=True)
    for axes, (title, rows) in zip(panels, cases.items()):
        points = {r["contender"]: (spread(r["ms"])[1], r["error"]) for r in rows}
        for name, label in (LINES | POINTS).items():
            members = [f"{name} q={q}" for q in STEPS] if name in LINES else [name]
            line = [points[member] for member in members if member in points]
            axes.plot(*zip(*line), **look(label))
        axes.set(xlabel="milliseconds per matrix", title=title)
        if points:  # a run that was stopped may have none
            axes.set(xscale="log", yscale="log")
            write_ticks(axes.xaxis)
    panels[0].set_ylabel("relative error (Frobenius norm)")
    add_legend(figure, 4, title="on a line: 3, 5, 8 and 12 steps")
    return figure


FIGURES = {"time": time_by_size, "pareto": error_by_time}


def draw(folder: Path, record: dict) -> None:
    """Every figure, as PNG and SVG."""
    folder.mkdir(parents=True, exist_ok=True)
    for name, make in FIGURES.items():
        keep(make(record), folder, name)


def _over(rows: dict, ours: dict) -> np.ndarray:
    """Least, median and most of the ratios at every size, NaN where one was not run."""
    found = np.full((3, len(COLUMNS)), math.nan)
    for at, size in enumerate(COLUMNS):
        if size in rows and size in ours:
            found[:, at] = spread(ratios(rows[size]["ms"], ours[size]["ms"]))
    return found


def _share_of_svd(rows: list[dict]) -> float:
    """Of its time, what the fastest method made of products takes to a small error."""
    ms = {r["contender"]: spread(r["ms"])[1] for r in rows}
    ours = [ms[r["contender"]] for r in rows if r["flops"] and r["error"] < SMALL]
    return min(ours, default=math.nan) / ms.get("svd", math.nan)
