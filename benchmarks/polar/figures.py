"""Figures of time by size and error by time, from the JSON of `python -m benchmarks polar`."""

from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np
from matplotlib.figure import Figure

from benchmarks.pictures import keep
from benchmarks.polar.studies import SIZES
from benchmarks.polar.tables import LABELS, by_contender, exponent
from muon_optax.comparison._timing import spread

COLORS = {
    "jordan q=5": "#d9480f",
    "jordan q=5, bfloat16 products": "#e8a33d",
    "polar_express q=8": "#2b8a3e",
    "svd": "black",
    "qdwh": "#4c6ef5",
    "scipy polar": "#8a8f98",
    "optax.contrib": "#9b6fd3",
}
SQUARES = [m for m, n in SIZES if m == n]
MARKERS = {"q=3": "^", "q=5": "o", "q=8": "s", "q=12": "D"}
OTHER = "#adb5bd"
FAMILY_COLORS = {
    "taylor1": "#c5b0e6",
    "taylor2": "#9b6fd3",
    "taylor3": "#6f3bb3",
    "taylor4": "#431c7a",
    "jordan": "#d9480f",
    "you": "#8a8f98",
    "polar_express": "#2b8a3e",
    "cans": "#4c6ef5",
    "svd": "black",
    "qdwh": "#12b886",
    "scipy polar": "#c2255c",
    "optax.contrib": "#e8a33d",
}


def time_by_size(record: dict) -> Figure:
    """Milliseconds of square matrices, log-log; the exponent in the legend."""
    figure, panels = plt.subplots(1, 2, figsize=(12, 4.8), sharey=True)
    for axes, dtype in zip(panels, ("float32", "bfloat16")):
        found = by_contender(r for r in record["sizes"] if r["dtype"] == dtype)
        for name in found:
            squares = {m: r for (m, n), r in found[name].items() if m == n}
            low, middle, high = np.transpose([spread(r["ms"]) for r in squares.values()])
            label = f"{LABELS[name].replace('`', '')}: n^{exponent(found[name]):.2f}"
            look = {"color": COLORS.get(name, OTHER), "marker": "o", "ms": 4, "capsize": 2}
            bars = [middle - low, high - middle]
            axes.errorbar(list(squares), middle, bars, label=label, **look)
        axes.set(xscale="log", yscale="log", xlabel="n, of an n×n matrix", title=dtype)
        axes.set_xticks(SQUARES, [str(n) for n in SQUARES])
        axes.minorticks_off()
        if found:
            axes.legend(fontsize=8, frameon=False)
    panels[0].set_ylabel("milliseconds: median and range")
    return figure


def error_by_time(record: dict) -> Figure:
    """Every contender as a point, and the front of those that none beats in both."""
    figure, panels = plt.subplots(1, 2, figsize=(13, 5.2), sharey=True)
    cases = {
        "momenta, 128×512, float32": {"m": 128, "n": 512, "spectrum": "momenta"},
        "Gaussian, 512×512, float32": {"m": 512, "n": 512, "spectrum": "gaussian"},
    }
    for axes, (title, case) in zip(panels, cases.items()):
        case |= {"dtype": "float32"}
        rows = [r for r in record["accuracy"] if case.items() <= r.items()]
        points = {
            r["contender"]: (spread(r["ms"])[1], r["error"])
            for r in rows
            if r["contender"] != "svd × 0.6"
        }
        for name, at in points.items():
            family, q = _parts(name)
            tint = FAMILY_COLORS.get(family, OTHER)
            axes.plot(*at, MARKERS.get(q, "P"), ms=7, color=tint, mec="white", mew=0.5)
        best, named = front(points), np.inf
        for name, at in best.items():
            if at[1] < named / 2:  # the next one would be written over it
                axes.annotate(name, at, (5, 4), textcoords="offset points", fontsize=7)
                named = at[1]
        axes.step(*np.transpose([*best.values()] or [(1, 1)]), "--", where="post", color=OTHER)
        axes.set(xscale="log", yscale="log", xlabel="milliseconds a matrix", title=title)
        axes.xaxis.set_major_formatter("{x:g}")
        axes.xaxis.set_minor_formatter("{x:g}")
    panels[0].set_ylabel("error: ‖o − polar‖_F / ‖polar‖_F")
    for name, tint in FAMILY_COLORS.items():
        panels[1].plot([], [], "o", color=tint, label=name)
    for q, marker in MARKERS.items():
        panels[1].plot([], [], marker, color=OTHER, label=q)
    panels[1].legend(fontsize=7, frameon=False, loc="upper left", bbox_to_anchor=(1.0, 1.0))
    return figure


def front(points: dict[str, tuple[float, float]]) -> dict[str, tuple[float, float]]:
    """Those that no faster one beats, the fastest first."""
    least, found = np.inf, {}
    for name, (ms, error) in sorted(points.items(), key=lambda item: item[1]):
        if error < least:
            least = error
            found[name] = (ms, error)
    return found


FIGURES = {"time": time_by_size, "pareto": error_by_time}


def draw(folder: Path, record: dict) -> None:
    """Every figure, as PNG and SVG."""
    folder.mkdir(parents=True, exist_ok=True)
    for name, make in FIGURES.items():
        keep(make(record), folder, name)


def _parts(contender: str) -> tuple[str, str]:
    """The family and the number of steps, "" where it has none."""
    family, _, rest = contender.partition(" q=")
    return family, f"q={rest.split(',')[0]}" if rest else ""
