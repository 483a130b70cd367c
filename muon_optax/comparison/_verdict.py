"""The verdict of a comparison: one sentence."""

from __future__ import annotations

import math
import statistics
from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING

from muon_optax.comparison._contenders import EXACT, OPTAX
from muon_optax.comparison._table import mark

if TYPE_CHECKING:
    from muon_optax.comparison._comparison import Comparison

_ACCURATE = 0.01  # the largest error that makes no difference in training
_REACHED = 0.5  # a method that brings fewer singular values near 1 is not a polar method
_EQUAL = 1.05  # times with a smaller ratio count as equal
_NOISY = 3.0  # on a busy machine, the longest sample over the shortest exceeds this


def write_verdict(comparison: Comparison) -> str:
    """Write one sentence: the fastest method, its lead, its error, and warnings."""
    wrong = {name: why for name in comparison.methods if (why := _why_wrong(comparison, name))}
    timed = {name: comparison.seconds(name) for name in comparison.methods}
    timed = {name: s for name, s in timed.items() if s and name not in wrong}
    parts = [*_praise(comparison, timed)] if timed else ["No method was timed"]
    parts += [f"{name} is left out, because {why}" for name, why in wrong.items()]
    if timed and EXACT in comparison.methods and not comparison.seconds(EXACT):
        notes = (time.note for time in comparison.times if time.method == EXACT)
        parts.append(f"the SVD has no time ({next(filter(None, notes), 'interrupted')})")
    return f"{'; '.join(parts)}."


def _praise(comparison: Comparison, seconds: dict[str, float]) -> Iterator[str]:
    bounds = {time.method for time in comparison.times if time.at_least}
    order = sorted(seconds, key=lambda name: (name in bounds, seconds[name]))
    best = [name for name in order if (comparison.ratio(name, order[0]) or math.inf) < _EQUAL]
    best = [name for name in best if name not in bounds] or order[:1]
    where = comparison.made_by.get("device", "this device")
    where = f"By estimate, on {comparison.target}" if comparison.target else f"On {where}"
    equal = "are equally fast" if len(best) > 1 else "is the fastest"
    faster, price = _faster(comparison, seconds, best), _price(comparison, best)
    yield f"{where}, {_enumerate(best)} {equal}{faster}{price}"
    worst = {name: max(_errors(comparison, name), default=math.inf) for name in order}
    accurate = [name for name in order if worst[name] <= _ACCURATE]
    if accurate and accurate[0] not in (*best, EXACT):
        speed = ""
        if EXACT in seconds:
            speed = f" at {_ratio(comparison, EXACT, accurate[0])} the SVD's speed"
        yield f"{accurate[0]} has an error of at most {worst[accurate[0]]:.2g}{speed}"
    for name in best:
        if weak := _weakest_leaf(comparison, name):
            yield f"{name} brings only {weak[1]:.0%} of the singular values near 1 in {weak[0]}"
    named = {*best, EXACT, OPTAX} & {*seconds}
    noise = {t.method: max(t.ms) / min(t.ms) for t in comparison.times if t.method in named}
    if (noisy := max(noise, key=noise.__getitem__)) and noise[noisy] > _NOISY:
        yield (
            f"the times of {noisy} vary {noise[noisy]:.0f}-fold, so compare again on a quiet "
            "machine"
        )


def _faster(comparison: Comparison, seconds: dict[str, float], best: list[str]) -> str:
    """Say how many times as fast the best method is as the SVD and as Optax's Muon."""
    said = [
        f"{_ratio(comparison, name, best[0])} as fast as {noun}"
        for name, noun in ((EXACT, "the SVD"), (OPTAX, "Optax's Muon"))
        if name in seconds and name not in best
    ]
    return f", {' and '.join(said)}" if said else ""


def _ratio(comparison: Comparison, above: str, below: str) -> str:
    """Write the ratio of two total times: "1.8 times", "about 1,100 times"."""
    its = [[t for t in comparison.times if t.method == name] for name in (above, below)]
    ratio = comparison.ratio(above, below) or 0.0
    said = f"{ratio:.1f}" if ratio < 9.95 else f"{float(f'{ratio:.2g}'):,.0f}"
    word = {"≥ ": "at least ", "≤ ": "at most ", "≈ ": "about ", "": ""}[mark(*its)]
    return f"{word}{said} times"


def _price(comparison: Comparison, names: list[str]) -> str:
    """Write the errors of these methods."""
    errors = [_errors(comparison, name) for name in names if name != EXACT]
    if comparison.target or not errors:
        return ""
    if not all(errors):
        return ", with an error that was not judged"
    return f", with an error of {_enumerate(f'{statistics.fmean(e):.2g}' for e in errors)}"


def _enumerate(names: Iterable[str]) -> str:
    """Write names as `a, b and c`."""
    *others, last = names
    return f"{', '.join(others)} and {last}" if others else last


def _weakest_leaf(comparison: Comparison, name: str) -> tuple[str, float] | None:
    """Return the leaf with the smallest mean `reached`, and this mean; None if it suffices."""
    leaves: dict[str, list[float]] = {}
    for judgement in comparison.judgements:
        if judgement.method == name and judgement.leaf and judgement.reached is not None:
            leaves.setdefault(judgement.leaf, []).append(judgement.reached)
    found = [(leaf, statistics.fmean(shares)) for leaf, shares in leaves.items()]
    weakest = min(found, key=lambda item: item[1], default=None)
    return weakest if weakest and weakest[1] < _REACHED else None


def _why_wrong(comparison: Comparison, name: str) -> str:
    """Say why a method is not a polar method here; "" if it is one, or was not judged."""
    judged = [j.reached for j in comparison.judgements if j.method == name]
    reached = [share for share in judged if share is not None]
    if broken := len(judged) - len(reached):
        return f"it is not finite for {broken} of {len(judged)} matrices"
    share = statistics.fmean(reached) if reached else 1.0
    if share < _REACHED:
        return f"it brings only {share:.0%} of the singular values near 1"
    return ""


def _errors(comparison: Comparison, name: str) -> list[float]:
    judged = (j.error for j in comparison.judgements if j.method == name)
    return [error for error in judged if error is not None]
