"""The verdict of a comparison: one sentence."""

from __future__ import annotations

import statistics
from typing import TYPE_CHECKING

from muon_optax.comparison._contenders import EXACT, OPTAX

if TYPE_CHECKING:
    from muon_optax.comparison._comparison import Comparison

_ACCURATE = 0.01  # an error that no training run can tell from the SVD's
_REACHED = 0.5  # a method that brings fewer singular values near 1 is no polar step


def write_verdict(comparison: Comparison) -> str:
    """Which method is the fastest, by how much, at which error; and which one is wrong."""
    wrong = [name for name in comparison.methods if _is_wrong(comparison, name)]
    timed = {name: comparison.seconds(name) for name in comparison.methods}
    timed = {name: s for name, s in timed.items() if s and name not in wrong}
    parts = [_praise(comparison, timed)] if timed else ["No method was timed"]
    if wrong:
        shares = ", ".join(f"{_mean(comparison, name, 'reached'):.0%}" for name in wrong)
        who = f"{', '.join(wrong)} {'is' if len(wrong) == 1 else 'are'} left out"
        parts.append(f"{who}, with {shares} of the singular values near 1")
    return f"{'; '.join(parts)}."


def _praise(comparison: Comparison, seconds: dict[str, float]) -> str:
    best = min(seconds, key=seconds.__getitem__)
    where = comparison.made_by.get("device", "this device")
    where = f"By estimate, on {comparison.target}" if comparison.target else f"On {where}"
    faster, price = _faster(comparison, seconds, best), _price(comparison, best)
    text = f"{where}, {best} is the fastest{faster}{price}"
    accurate = {name: s for name, s in seconds.items() if _is_accurate(comparison, name)}
    if accurate and (second := min(accurate, key=accurate.__getitem__)) not in (best, EXACT):
        times = seconds[EXACT] / seconds[second] if EXACT in seconds else None
        speed = f" at {_times(times)} the SVD's speed" if times else ""
        text += (
            f"; {second} comes within {_mean(comparison, second, 'error'):.1%} of the exact "
        )
        text += f"factor{speed}"
    if EXACT in comparison.methods and EXACT not in seconds:
        note = next(t.note for t in comparison.times if t.method == EXACT and not t.ms)
        text += f"; the SVD has no time ({note})"
    return text


def _faster(comparison: Comparison, seconds: dict[str, float], best: str) -> str:
    """How many times as fast as the SVD and as Optax's Muon."""
    bounds = {time.method for time in comparison.times if time.at_least}
    said = []
    for name, noun in ((EXACT, "the SVD"), (OPTAX, "Optax's Muon")):
        if name in seconds and name != best:
            bound = "at least " if name in bounds else ""
            said.append(f"{bound}{_times(seconds[name] / seconds[best])} as fast as {noun}")
    return f", {' and '.join(said)}" if said else ""


def _times(ratio: float) -> str:
    """Two digits: "1.8 times", "1,100 times"."""
    return f"{ratio:.1f} times" if ratio < 9.95 else f"{float(f'{ratio:.2g}'):,.0f} times"


def _price(comparison: Comparison, name: str) -> str:
    """How far it is from the exact factor."""
    if name == EXACT or not any(j.method == name for j in comparison.judgements):
        return ""
    return f", with an error of {_mean(comparison, name, 'error'):.2g}"


def _is_accurate(comparison: Comparison, name: str) -> bool:
    found = [j for j in comparison.judgements if j.method == name]
    return bool(found) and all(j.error is not None and j.error <= _ACCURATE for j in found)


def _is_wrong(comparison: Comparison, name: str) -> bool:
    judged = any(j.method == name for j in comparison.judgements)
    return judged and _mean(comparison, name, "reached") < _REACHED


def _mean(comparison: Comparison, name: str, what: str) -> float:
    """The mean of a measure, in which a result that is not finite counts as 0."""
    found = [getattr(j, what) for j in comparison.judgements if j.method == name]
    return statistics.fmean(0.0 if value is None else value for value in found)
