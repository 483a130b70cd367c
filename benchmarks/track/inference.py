"""What can be said of losses with paired seeds: intervals, tests, equivalence, crossings."""

import math
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import ArrayLike
from scipy import stats

CONFIDENCE = 0.95


class Estimate(NamedTuple):
    """A mean and half the width of its 95 % confidence interval."""

    mean: float
    half: float


class Difference(NamedTuple):
    """One entry's loss less another's, seed by seed.

    Attributes:
      of: The mean difference and its interval.
      p: Of the paired t-test.
      effect: The mean difference over the standard deviation of the differences, Cohen's d.
    """

    of: Estimate
    p: float
    effect: float


# Where a run diverged, its loss is infinite and no test applies. It still counts for Holm.
UNKNOWN = Difference(Estimate(math.inf, math.inf), 1.0, math.inf)


def estimate(values: ArrayLike) -> Estimate:
    """Mean and interval by Student's t; without an interval if a run diverged."""
    x = np.asarray(values, np.float64)
    if _diverged(x):
        return UNKNOWN.of
    quantile = stats.t.ppf((1 + CONFIDENCE) / 2, len(x) - 1)
    return Estimate(float(x.mean()), float(quantile * x.std(ddof=1) / math.sqrt(len(x))))


def compare(values: ArrayLike, reference: ArrayLike) -> Difference:
    """Paired by seed; equal losses of every seed are no evidence of a difference."""
    if _diverged(values, reference):
        return UNKNOWN
    gaps = np.asarray(values, np.float64) - np.asarray(reference, np.float64)
    if not gaps.any():
        return Difference(Estimate(0.0, 0.0), 1.0, 0.0)
    return Difference(
        estimate(gaps), _p(gaps, 0.0, "two-sided"), float(gaps.mean() / gaps.std(ddof=1))
    )


def compare_unpaired(values: ArrayLike, reference: ArrayLike) -> Difference:
    """Welch's test, for losses of different seeds."""
    if _diverged(values, reference):
        return UNKNOWN
    x, y = (np.asarray(v, np.float64) for v in (values, reference))
    found = stats.ttest_ind(x, y, equal_var=False)
    low, high = found.confidence_interval(CONFIDENCE)
    deviation = math.sqrt((x.var(ddof=1) + y.var(ddof=1)) / 2)
    gap = Estimate(float(x.mean() - y.mean()), float(high - low) / 2)
    return Difference(gap, _p_of(found), gap.mean / deviation)


def correct(ps: Mapping[str, float]) -> dict[str, float]:
    """Holm's correction: the chance of one false finding among all is at most p."""
    corrected, largest = {}, 0.0
    for rank, name in enumerate(sorted(ps, key=lambda name: ps[name])):
        largest = max(largest, min(1.0, (len(ps) - rank) * ps[name]))
        corrected[name] = largest
    return {name: corrected[name] for name in ps}


def equivalence(values: ArrayLike, reference: ArrayLike, margin: float) -> float:
    """The p of two one-sided paired tests: small where the mean gap is within the margin."""
    if _diverged(values, reference):
        return 1.0
    gaps = np.asarray(values, np.float64) - np.asarray(reference, np.float64)
    if not gaps.any():
        return 0.0
    return max(_p(gaps, -margin, "greater"), _p(gaps, margin, "less"))


def trend(rows: ArrayLike) -> float:
    """The p of Page's test that, seed by seed, rows fall in the order given."""
    falling = np.asarray(rows, np.float64)[::-1].T
    return float(stats.page_trend_test(falling, method="asymptotic").pvalue)


def steps_to(target: float, losses: Sequence[float], eval_every: int) -> float:
    """The step at which a curve first reaches the target, between evaluations by a line."""
    for i, loss in enumerate(losses):
        if loss <= target:
            before = losses[i - 1] if i else loss
            back = (target - loss) / (before - loss) if before > loss else 0.0
            return (i + 1 - back) * eval_every
    return math.inf


def _diverged(*losses: ArrayLike) -> bool:
    return not all(np.isfinite(x).all() for x in losses)


def _p(gaps: np.ndarray, mean: float, alternative: str) -> float:
    return _p_of(stats.ttest_1samp(gaps, mean, alternative=alternative))


def _p_of(found: Any) -> float:
    return float(found.pvalue)
