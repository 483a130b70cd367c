"""Figures of one palette, saved as PNG and SVG; the same data gives the same file."""

from pathlib import Path
from typing import Any

import matplotlib
import matplotlib.pyplot as plt
from curves import COLORS
from matplotlib.axis import Axis
from matplotlib.figure import Figure
from matplotlib.ticker import LogLocator, NullLocator

matplotlib.rcParams.update({"legend.frameon": False, "axes.axisbelow": True})
matplotlib.rcParams["svg.hashsalt"] = "muon_optax"
WIDTH = 8.5  # inches: shown at 800 pixels, letters have about the points that they say

# What a label begins with → colour, marker and line. The colours are Okabe and Ito's, which
# the colour-blind tell apart; the Taylor family is a ramp of one hue.
LOOKS = {
    "SVD": ("black", "s", "--"),
    "Muon": (COLORS["muon"], "o", "-"),
    "Newton-Schulz": (COLORS["muon"], "o", "-"),
    "Jordan": (COLORS["muon"], "o", "-"),
    "Polar Express": ("#009e73", "D", "-."),
    "AdamW": (COLORS["adamw"], "v", ":"),
    "SGD, own step size": ("#808080", "x", ":"),
    "SGD": ("#808080", "X", (0, (5, 1, 1, 1))),
    "optax.contrib": ("#e69f00", "P", ":"),
    "QDWH": ("#666666", "^", (0, (6, 2))),
    "fast": ("#882255", "*", "-"),
    "near_exact": ("#882255", "h", "-"),
    "Taylor, degree 3": ("#cbb4e4", "<", "-"),
    "Taylor, degree 5": ("#9b6fd3", ">", "-"),
    "Taylor, degree 7": ("#6f3bb3", "^", "-"),
    "Taylor, degree 9": ("#431c7a", "d", "-"),
}

RAMP = ("#cbb4e4", "#9b6fd3", "#6f3bb3", "#431c7a")  # of one hue, what is more is darker


def look(label: str) -> dict[str, Any]:
    """Colour, marker and line of the method that a label begins with, and the label."""
    color, marker, line = next(LOOKS[name] for name in LOOKS if label.startswith(name))
    return {"color": color, "marker": marker, "ls": line, "label": label}


def begin(title: str, *shape: int, height: float, **options: Any) -> tuple[Figure, Any]:
    """A figure that says what it shows, and its axes."""
    options |= {"figsize": (WIDTH, height), "layout": "constrained"}
    figure, axes = plt.subplots(*shape, **options)
    figure.suptitle(title, x=0.01, ha="left", weight="bold")
    return figure, axes


def write_ticks(axis: Axis, subs: tuple[float, ...] = (1, 2, 5)) -> None:
    """Ticks of a logarithmic axis as numbers, at these multiples of powers of ten."""
    axis.set_major_locator(LogLocator(subs=subs))
    axis.set_minor_locator(NullLocator())
    axis.set_major_formatter("{x:g}")


def add_legend(figure: Figure, ncols: int, **options: Any) -> None:
    """The labels of the figure below it, every one once."""
    found = {}
    for axes in figure.axes:
        for handle, label in zip(*axes.get_legend_handles_labels()):
            found.setdefault(label, handle)
    figure.legend(found.values(), found, loc="outside lower center", ncols=ncols, **options)


def keep(figure: Figure, folder: Path, name: str) -> None:
    """Write the figure and close it."""
    for axes in figure.axes:
        axes.grid(alpha=0.25)
        axes.spines[["top", "right"]].set_visible(False)
    figure.savefig(folder / f"{name}.png", dpi=200)
    figure.savefig(folder / f"{name}.svg", metadata={"Date": None})
    plt.close(figure)
