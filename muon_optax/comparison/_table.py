"""The tables of a comparison, as text."""

from __future__ import annotations

import statistics
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING

from muon_optax._ranges import range_of_paths, without_numbers
from muon_optax._text import align
from muon_optax.comparison._contenders import EXACT, OPTAX
from muon_optax.comparison._timing import ratios, spread

if TYPE_CHECKING:
    from muon_optax.comparison._comparison import Comparison, Judgement, Time

ESTIMATED = "estimated"  # the note of a complete estimate
_HEADER = ("matrices", "method", "ms a matrix", "SVD / it", "Optax / it", "error")
_HEADER += ("singular values", "alignment", "reached", "memory / input", "compile, s", "note")


def write_table(comparison: Comparison) -> str:
    """Write a table with a row for every shape and method, and totals for several matrices."""
    header, rows = list_times(comparison)
    return align([header, *rows])


def write_leaves(comparison: Comparison) -> str:
    """Write a table with a row for every leaf and method; "" if there are no leaves."""
    header, rows = list_leaves(comparison)
    return align([header, *rows]) if rows else ""


def list_times(comparison: Comparison) -> tuple[list[str], list[list[str]]]:
    """Return the header, and the rows for every shape and method and for the total."""
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
    return _without_empty_columns(_HEADER, rows)


def list_leaves(comparison: Comparison) -> tuple[list[str], list[list[str]]]:
    """Return the header and the rows for every leaf and method, as means over the samples.

    Leaves whose paths differ only in numbers share a row.
    """
    found: dict[str, dict[str, list[Judgement]]] = {}
    for judgement in comparison.judgements:
        if judgement.leaf:
            of_leaf = found.setdefault(without_numbers(judgement.leaf), {})
            of_leaf.setdefault(judgement.method, []).append(judgement)
    rows = []
    for of_leaf in found.values():
        leaves = dict.fromkeys(j.leaf for of_it in of_leaf.values() for j in of_it)
        head = range_of_paths([*leaves])
        for method, of_it in of_leaf.items():
            rows.append([head, method, *_accuracy(of_it)])
            head = ""
    return _without_empty_columns(["leaf", "method", *_HEADER[5:9]], rows)


def _without_empty_columns(
    header: Sequence[str], rows: Sequence[Sequence[str]]
) -> tuple[list[str], list[list[str]]]:
    kept = [i for i in range(len(header)) if any(row[i] for row in rows)]
    return [header[i] for i in kept], [[row[i] for i in kept] for row in rows]


def number(value: float | None) -> str:
    """Write a number with three digits; "" for None."""
    return "" if value is None else f"{float(f'{value:.3g}'):g}"


def _shape(row: Time | Judgement) -> tuple[int, int, str]:
    return row.m, row.n, row.dtype


def _cells(time: Time, times: dict[str, Time], judgements: list[Judgement]) -> list[str]:
    against = [_ratio(times.get(name), time) for name in (EXACT, OPTAX)]
    note = "" if time.note == ESTIMATED else time.note  # the mark ≈ already says this
    costs = [number(time.memory), number(time.compile_s), note]
    return [time.method, _milliseconds(time), *against, *_accuracy(judgements), *costs]


def _milliseconds(time: Time) -> str:
    """Write the median and the range of the samples, or an estimate with its mark."""
    if not time.ms:
        return "none"
    if time.note:
        return f"{mark([time])}{number(time.ms[0])}"
    low, middle, high = map(number, spread(time.ms))
    return f"{middle} ({low} to {high})"


def _ratio(above: Time | None, below: Time) -> str:
    """Write the ratio of the times of two methods: the median over the turns."""
    if above is None or above is below or not (above.ms and below.ms):
        return ""
    ratio = number(statistics.median(ratios(above.ms, below.ms)))
    return f"{mark([above], [below])}{ratio}"


def mark(above: Sequence[Time], below: Sequence[Time] = ()) -> str:
    """Return the mark for a time, or for a ratio of two times, that was not measured."""
    numerator, denominator = (any(time.at_least for time in of) for of in (above, below))
    if numerator != denominator:
        return "≥ " if numerator else "≤ "
    return "≈ " if any(time.note for time in (*above, *below)) else ""


def _accuracy(judgements: Sequence[Judgement]) -> list[str]:
    """Write the means of error, alignment and reached, and a band that contains all bands."""
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
    """Yield the last lines of the table, with the seconds for all matrices."""
    shapes = {_shape(time): time.count for time in comparison.times}
    head = f"all {sum(shapes.values())}, s"
    times = {m: [t for t in comparison.times if t.method == m] for m in comparison.methods}
    for method, its in times.items():
        seconds, over = comparison.seconds(method), []
        for name in (EXACT, OPTAX):
            ratio = None if name == method else comparison.ratio(name, method)
            over.append((ratio and f"{mark(times[name], its)}{number(ratio)}") or "")
        total = f"{mark(its)}{number(seconds)}" if seconds else "none"
        yield [head, method, total, *over, *[""] * 7]
        head = ""
