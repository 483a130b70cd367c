"""Draws time by size and error by time, from the JSON of `python -m benchmarks polar`."""

from pathlib import Path

import matplotlib
import matplotlib.pyplot as plt
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from benchmarks.polar.studies import SIZES
from benchmarks.polar.tables import LABELS, by_contender, exponent
from benchmarks.timing import spread

matplotlib.rcParams["svg.hashsalt"] = "muon_optax"  # the same file at every drawing

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
        axes.legend(fontsize=8, frameon=False)
    panels[0].set_ylabel("milliseconds: median and range")
    return figure


def error_by_time(record: dict) -> Figure:
    """Every contender as a point, and the front of those that none beats in both."""
    figure, panels = plt.subplots(1, 2, figsize=(13, 5.2), sharey=True)
    cases = {
        "momenta, 3 × (128×512), float32": (128, 512, "momenta"),
        "Gaussian, 512×512, float32": (512, 512, "gaussian"),
    }
    for axes, (title, case) in zip(panels, cases.items()):
        rows = [r for r in record["accuracy"] if (r["m"], r["n"], r["spectrum"]) == case]
        rows = [r for r in rows if r["dtype"] == "float32" and r["contender"] != "svd × 0.6"]
        points = {r["contender"]: (spread(r["ms"])[1], r["error"]) for r in rows}
        for name, at in points.items():
            axes.plot(*at, "o", ms=5, color=FAMILY_COLORS.get(_family(name), OTHER))
            axes.annotate(_short(name), at, (4, 3), textcoords="offset points", fontsize=7)
        if points:
            axes.step(*np.transpose(front(points)), "--", where="post", color="#8a8f98", lw=1)
        axes.set(xscale="log", yscale="log", xlabel="milliseconds a matrix", title=title)
        _legend(axes)
    panels[0].set_ylabel("error: ‖o − polar‖_F / ‖polar‖_F")
    return figure


def front(points: dict[str, tuple[float, float]]) -> list[tuple[float, float]]:
    """Those that no faster one beats, the fastest first."""
    best, found = np.inf, []
    for ms, error in sorted(points.values()):
        if error < best:
            best = error
            found.append((ms, error))
    return found


FIGURES = {"time": time_by_size, "pareto": error_by_time}


def draw(folder: Path, record: dict) -> None:
    """Every figure, as PNG and SVG."""
    folder.mkdir(parents=True, exist_ok=True)
    for name, make in FIGURES.items():
        figure = make(record)
        for axes in figure.axes:
            axes.grid(alpha=0.25)
            axes.spines[["top", "right"]].set_visible(False)
        figure.tight_layout()
        figure.savefig(folder / f"{name}.png", dpi=130)
        figure.savefig(folder / f"{name}.svg", metadata={"Date": None})
        plt.close(figure)


def _family(contender: str) -> str:
    return contender.split(" q=")[0]


def _short(contender: str) -> str:
    """What the colour does not tell."""
    _, _, rest = contender.partition(" ")
    return rest.replace(" products", "") if "q=" in contender else contender


def _legend(axes: Axes) -> None:
    for name, color in FAMILY_COLORS.items():
        axes.plot([], [], "o", ms=5, color=color, label=name)
    axes.legend(fontsize=7, frameon=False, ncols=2)
