"""The plot of a comparison: time and error of every method, as points on two axes."""

from __future__ import annotations

import statistics
import textwrap
from typing import TYPE_CHECKING

from muon_optax.comparison._contenders import EXACT, OPTAX
from muon_optax.comparison._table import number

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

    from muon_optax.comparison._comparison import Comparison

# Colours (by Okabe and Ito, safe for the colour-blind) and markers.
_LOOKS = {EXACT: ("#000000", "s"), OPTAX: ("#E69F00", "P")}
_OTHER = ("#D55E00", "o")


def draw(comparison: Comparison) -> Figure:
    """Plot the methods by time, the fastest first, with their errors on a second axis.

    Raises:
      ImportError: If Matplotlib is missing.
    """
    try:
        from matplotlib.figure import Figure
    except ImportError as error:
        raise ImportError("a picture needs matplotlib: pip install matplotlib") from error
    seconds = {name: comparison.seconds(name) for name in comparison.methods}
    order = sorted(seconds, key=lambda name: seconds[name] or float("inf"))
    found = {n: [j.error for j in comparison.judgements if j.method == n] for n in order}
    finite = {n: [e for e in of_it if e is not None] for n, of_it in found.items()}
    errors = {n: statistics.fmean(e) for n, e in finite.items() if e and e == found[n]}
    figure = Figure(figsize=(9, 2.2 + 0.4 * len(order)), layout="constrained")
    left, *right = figure.subplots(1, 2 if errors else 1, sharey=True, squeeze=False)[0]
    count = sum({(t.m, t.n, t.dtype): t.count for t in comparison.times}.values())
    what = "the matrix" if count == 1 else f"all {count} matrices"
    kind = f"estimated for {comparison.target}" if comparison.target else "measured"
    milliseconds = {name: 1000 * s for name, s in seconds.items() if s}
    _points(left, order, milliseconds, "no time", f"milliseconds for {what}, {kind}")
    for axes in right:
        label = "error: distance to the exact polar factor"
        _points(axes, order, errors, "not finite", label)
    figure.suptitle(textwrap.fill(comparison.verdict, 95), fontsize=11, x=0.01, ha="left")
    return figure


def _points(
    axes: Axes, order: list[str], values: dict[str, float], missing: str, label: str
) -> None:
    """Draw a point for every method on a logarithmic axis, with its value as text."""
    shown = {name: value for name, value in values.items() if value > 0}  # 0 has no logarithm
    from matplotlib.ticker import LogLocator, NullLocator

    low, high = (f(shown.values(), default=1.0) for f in (min, max))
    for row, name in enumerate(order):
        color, marker = _LOOKS.get(name, _OTHER)
        if name in shown:
            axes.plot(shown[name], row, marker, color=color, ms=8)
        at, text = shown.get(name, low), number(values.get(name)) or missing
        axes.annotate(text, (at, row), (9, 0), textcoords="offset points", va="center")
    margin = (10 * high / low) ** 0.25  # room for the numbers
    axes.set(xscale="log", xlim=(low / 1.5, high * margin), ylim=(len(order) - 0.5, -0.5))
    axes.set_yticks(range(len(order)), order)
    axes.xaxis.set_major_locator(LogLocator(subs=(1, 2, 5) if high < 100 * low else (1,)))
    axes.xaxis.set_minor_locator(NullLocator())
    axes.xaxis.set_major_formatter("{x:g}")
    axes.set_xlabel(label)
    axes.grid(alpha=0.3)
    axes.spines[["top", "right"]].set_visible(False)
