"""The tables of a comparison, as text."""

from __future__ import annotations

import statistics
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING

from muon_optax.comparison._contenders import EXACT, OPTAX
from muon_optax.comparison._timing import ratios

if TYPE_CHECKING:
    from muon_optax.comparison._comparison import Comparison, Judgement, Time

_HEADER = ("matrices", "method", "ms a matrix", "SVD / it", "Optax / it", "error")
_HEADER += ("singular values", "alignment", "reached", "memory / input", "compile, s", "note")


def write_table(comparison: Comparison) -> str:
    """Every shape and method, and the total if there are several matrices."""
    rows = []
    for shape in dict.fromkeys(map(_shape, comparison.times)):
        times = {t.method: t for t in comparison.times if _shape(t) == shape}
        found = [j for j in comparison.judgements if _shape(j) == shape]
        for index, (method, time) in enumerate(times.items()):
            of_it = [j for j in found if j.method == method]
            head = f"{time.count} × {time.m}×{time.n} {time.dtype}" if index == 0 else ""
            rows.append([head, *_cells(time, times, of_it)])
    shapes = {_shape(time) for time in comparison.times}
    if len(shapes) > 1 or any(time.count > 1 for time in comparison.times):
        rows += _totals(comparison)
    return align_columns([list(_HEADER), *rows])


def write_leaves(comparison: Comparison) -> str:
    """Every leaf and method, the mean over the matrices that were judged; "" without leaves."""
    found: dict[tuple[str, str], list[Judgement]] = {}
    for judgement in comparison.judgements:
        if judgement.leaf:
            found.setdefault((judgement.leaf, judgement.method), []).append(judgement)
    rows, last = [], ""
    for (leaf, method), of_it in sorted(found.items(), key=lambda item: item[0][0]):
        rows.append([leaf if leaf != last else "", method, *_accuracy(of_it)])
        last = leaf
    header = ["leaf", "method", *_HEADER[5:9]]
    return align_columns([header, *rows]) if rows else ""


def align_columns(lines: Sequence[Sequence[str]]) -> str:
    """A header and rows as text, without columns that are empty."""
    kept = [column for column in zip(*lines) if any(column[1:])]
    widths = [max(map(len, column)) for column in kept]
    rows = [*zip(*kept)]
    rows.insert(1, tuple("-" * width for width in widths))
    return "\n".join(
        "  ".join(cell.ljust(width) for cell, width in zip(row, widths)).rstrip()
        for row in rows
    )


def number(value: float | None) -> str:
    """Three digits."""
    return "" if value is None else f"{float(f'{value:.3g}'):g}"


def _shape(row: Time | Judgement) -> tuple[int, int, str]:
    return row.m, row.n, row.dtype


def _cells(time: Time, times: dict[str, Time], judgements: list[Judgement]) -> list[str]:
    against = [_ratio(times.get(name), time) for name in (EXACT, OPTAX)]
    costs = [number(time.memory), number(time.compile_s), time.note]
    return [time.method, _milliseconds(time), *against, *_accuracy(judgements), *costs]


def _milliseconds(time: Time) -> str:
    """Median and range of samples; an estimate is marked."""
    if not time.ms:
        return "none"
    if time.note:
        return f"≈ {number(time.ms[0])}"
    low, middle, high = (number(f(time.ms)) for f in (min, statistics.median, max))
    return f"{middle} ({low} to {high})"


def _ratio(above: Time | None, below: Time) -> str:
    """How many times as long another method takes, the median over the turns."""
    if above is None or above is below or not (above.ms and below.ms):
        return ""
    is_estimate = above.note or below.note
    return (
        f"{'≈ ' if is_estimate else ''}{number(statistics.median(ratios(above.ms, below.ms)))}"
    )


def _accuracy(judgements: Sequence[Judgement]) -> list[str]:
    """Error, band, alignment and reached: means, of the band the widest."""
    if not judgements:
        return [""] * 4
    bands = [judgement.band for judgement in judgements if judgement.band is not None]
    if len(bands) < len(judgements):
        return ["not finite", *[""] * 3]
    lowest, highest = min(low for low, _ in bands), max(high for _, high in bands)
    error, alignment, reached = (
        statistics.fmean(getattr(judgement, name) for judgement in judgements)
        for name in ("error", "alignment", "reached")
    )
    band = f"{number(lowest)} to {number(highest)}"
    return [number(error), band, number(alignment), f"{100 * reached:.0f} %"]


def _totals(comparison: Comparison) -> Iterable[list[str]]:
    """Seconds for all matrices, as the last lines."""
    references = {name: comparison.seconds(name) for name in (EXACT, OPTAX)}
    shapes = {_shape(time): time.count for time in comparison.times}
    head = f"all {sum(shapes.values())}, s"
    for method in comparison.methods:
        seconds = comparison.seconds(method)
        over = [
            number(other / seconds) if other and seconds and name != method else ""
            for name, other in references.items()
        ]
        yield [head, method, number(seconds) or "none", *over, *[""] * 7]
        head = ""
