"""The verdict of a comparison: one sentence."""

from __future__ import annotations

import math
import statistics
from typing import TYPE_CHECKING

from muon_optax.comparison._contenders import EXACT, OPTAX
from muon_optax.comparison._table import mark

if TYPE_CHECKING:
    from muon_optax.comparison._comparison import Comparison

_ACCURATE = 0.01  # an error that no training run can tell from the SVD's
_REACHED = 0.5  # a method that brings fewer singular values near 1 is no polar step


def write_verdict(comparison: Comparison) -> str:
    """Which method is the fastest, by how much, at which error; and which one is wrong."""
    wrong = {name: why for name in comparison.methods if (why := _why_wrong(comparison, name))}
    timed = {name: comparison.seconds(name) for name in comparison.methods}
    timed = {name: s for name, s in timed.items() if s and name not in wrong}
    parts = [_praise(comparison, timed)] if timed else ["No method was timed"]
    parts += [f"{name} is left out, {why}" for name, why in wrong.items()]
    if timed and EXACT in comparison.methods and not comparison.seconds(EXACT):
        notes = (time.note for time in comparison.times if time.method == EXACT)
        parts.append(f"the SVD has no time ({next(filter(None, notes), 'interrupted')})")
    return f"{'; '.join(parts)}."


def _praise(comparison: Comparison, seconds: dict[str, float]) -> str:
    bounds = {time.method for time in comparison.times if time.at_least}
    best = min(seconds, key=lambda name: (name in bounds, seconds[name]))
    where = comparison.made_by.get("device", "this device")
    where = f"By estimate, on {comparison.target}" if comparison.target else f"On {where}"
    faster, price = _faster(comparison, seconds, best), _price(comparison, best)
    text = f"{where}, {best} is the fastest{faster}{price}"
    worst = {name: max(_errors(comparison, name), default=math.inf) for name in seconds}
    accurate = {name: s for name, s in seconds.items() if worst[name] <= _ACCURATE}
    if accurate and (second := min(accurate, key=accurate.__getitem__)) not in (best, EXACT):
        text += f"; {second} has an error of at most {worst[second]:.2g}"
        if EXACT in seconds:
            text += f" at {_ratio(comparison, EXACT, second)} the SVD's speed"
    return text


def _faster(comparison: Comparison, seconds: dict[str, float], best: str) -> str:
    """How many times as fast as the SVD and as Optax's Muon."""
    said = [
        f"{_ratio(comparison, name, best)} as fast as {noun}"
        for name, noun in ((EXACT, "the SVD"), (OPTAX, "Optax's Muon"))
        if name in seconds and name != best
    ]
    return f", {' and '.join(said)}" if said else ""


def _ratio(comparison: Comparison, above: str, below: str) -> str:
    """Of two total times, two digits: "1.8 times", "about 1,100 times"."""
    its = [[t for t in comparison.times if t.method == name] for name in (above, below)]
    ratio = (comparison.seconds(above) or 0.0) / (comparison.seconds(below) or math.inf)
    said = f"{ratio:.1f}" if ratio < 9.95 else f"{float(f'{ratio:.2g}'):,.0f}"
    word = {"≥ ": "at least ", "≤ ": "at most ", "≈ ": "about ", "": ""}[mark(*its)]
    return f"{word}{said} times"


def _price(comparison: Comparison, name: str) -> str:
    """How far it is from the exact factor."""
    errors = _errors(comparison, name)
    if name == EXACT or not errors:
        return ""
    return f", with an error of {statistics.fmean(errors):.2g}"


def _why_wrong(comparison: Comparison, name: str) -> str:
    """Why a method is no polar method here; "" if it is one, or was not judged."""
    judged = [j.reached for j in comparison.judgements if j.method == name]
    reached = [share for share in judged if share is not None]
    if broken := len(judged) - len(reached):
        return f"not finite for {broken} of {len(judged)} matrices"
    share = statistics.fmean(reached) if reached else 1.0
    return f"with {share:.0%} of the singular values near 1" if share < _REACHED else ""


def _errors(comparison: Comparison, name: str) -> list[float]:
    judged = (j.error for j in comparison.judgements if j.method == name)
    return [error for error in judged if error is not None]
