"""The search for an entry's settings: successive halving, on the tuning data.

Sixteen settings around the entry's start train for a quarter of the budget, the best six of
them for a half. The best two of those, and the best one at a higher and at a lower rate, train
in full with two seeds each. That costs 15 full runs, the same for every entry. The sixteen are
the start and 15 points of a Halton sequence, in the same places relative to every start.
"""

import math
import statistics
from collections.abc import Callable, Sequence
from functools import cache
from typing import NamedTuple

from scipy.stats import qmc

from benchmarks.track.entry import Settings
from benchmarks.track.training import Job, final

FIRST_SEED = 1000  # tuning sees other initial weights and batches than the test


class Rung(NamedTuple):
    """How many settings train, for which part of the budget, with how many seeds."""

    settings: int
    part: float
    seeds: int


RUNGS = (Rung(16, 0.25, 1), Rung(6, 0.5, 1))
LAST = Rung(4, 1.0, 2)
NEARBY = 1.5  # the factor of the higher and the lower rate
# The search goes from the start to either side by these factors of rate, rest_rate, decay and
# of 1 - momentum, the weight of a new gradient.
REACH = Settings(rate=2.5, rest_rate=2.5, decay=4.0, momentum=1.8)

RunAll = Callable[[Sequence[Job]], list[dict]]


def candidates(start: Settings, count: int) -> list[Settings]:
    """The start, and points around it on logarithmic scales."""
    return [start, *(move(start, point) for point in directions()[: count - 1])]


@cache
def directions() -> list[Settings]:
    """Points of [-1, 1]⁴, the same for every entry."""
    points = qmc.Halton(len(Settings._fields), scramble=False).random(RUNGS[0].settings)
    return [
        Settings(*map(float, 2 * point - 1)) for point in points[1:]
    ]  # the first is a corner


def move(start: Settings, direction: Settings) -> Settings:
    """The settings in a direction of [-1, 1]⁴ from the start."""
    return scale(start, Settings(*(reach**d for reach, d in zip(REACH, direction))))


def scale(settings: Settings, factors: Settings) -> Settings:
    """Settings times factors, 1 - β for momentum; four digits."""
    moved = [x * factor for x, factor in zip(settings, factors)]
    moved[-1] = 1 - min((1 - settings.momentum) * factors.momentum, 0.9)
    return Settings(*(float(f"{x:.4g}") for x in moved))


def search(
    job: Job, start: Settings, run_all: RunAll, eval_every: int
) -> tuple[Settings, list]:
    """The best settings of an entry, and the mean loss of all that were tried, by rung."""
    tried, log = candidates(start, RUNGS[0].settings), []
    for rung in RUNGS:
        tried = climb(rung, job, tried[: rung.settings], run_all, eval_every, log)
    best, second = tried[:2]
    nearby = [best._replace(rate=best.rate * factor) for factor in (NEARBY, 1 / NEARBY)]
    return climb(LAST, job, [best, second, *nearby], run_all, eval_every, log)[0], log


def climb(
    rung: Rung, job: Job, tried: list[Settings], run_all: RunAll, eval_every: int, log: list
) -> list[Settings]:
    """The settings of a rung, the best first; what was measured is added to the log."""
    steps = max(1, round(job.steps * rung.part / eval_every)) * eval_every
    seeds = range(FIRST_SEED, FIRST_SEED + rung.seeds)
    jobs = [job._replace(settings=s, seed=seed, steps=steps) for s in tried for seed in seeds]
    losses = [final(found) for found in run_all(jobs)]
    starts = range(0, len(jobs), rung.seeds)
    means = [statistics.mean(losses[i : i + rung.seeds]) for i in starts]
    ranked = sorted(zip(means, tried))
    log.append({"steps": steps, "tried": [[_written(x), *s] for x, s in ranked]})
    return [settings for _, settings in ranked]


def jobs_of_search() -> float:
    """The cost of a search in full runs."""
    return sum(rung.settings * rung.part * rung.seeds for rung in (*RUNGS, LAST))


def _written(loss: float) -> float | None:
    return round(loss, 5) if math.isfinite(loss) else None
