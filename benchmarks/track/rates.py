"""Muon's loss on the GPT over a grid of its two learning rates, for two momenta and budgets.

It is for readers who do not search: the best point, and what its neighbors cost.
"""

import itertools
import statistics

from benchmarks.record import load
from benchmarks.text import written
from benchmarks.track.entry import Settings
from benchmarks.track.tasks import task
from benchmarks.track.training import Job, final
from benchmarks.track.workers import open_workers

RATES = (0.01, 0.02, 0.04, 0.08)
REST_RATES = (0.003, 0.01, 0.03)
MOMENTA = (0.85, 0.95)
LONGER = 4  # times the budget, at the middle of the grid
SEEDS = (1000, 1001)


def measure() -> dict:
    """The mean loss on the tuning text at every point of the grid, and of longer runs."""
    steps = task("gpt").steps
    short = [
        (Settings(rate, rest, momentum=momentum), steps)
        for momentum, rate, rest in itertools.product(MOMENTA, RATES, REST_RATES)
    ]
    long = [
        (Settings(rate, 0.03, momentum=momentum), LONGER * steps)
        for momentum, rate in itertools.product(MOMENTA, RATES[:3])
    ]
    jobs = [
        Job("gpt", "muon", settings, seed, count)
        for settings, count in long + short
        for seed in SEEDS
    ]
    with open_workers(sum(job.steps for job in jobs)) as workers:
        losses = [final(found) for found in workers.run_all(jobs)]
        spent = {"cpu_s": round(workers.cpu_s, 1), "commits": sorted(workers.commits)}
    count = len(SEEDS)
    means = [statistics.mean(losses[i : i + count]) for i in range(0, len(jobs), count)]
    rows = [
        settings._asdict() | {"steps": of_run, "loss": round(mean, 4)}
        for (settings, of_run), mean in zip(long + short, means)
    ]
    return {"rows": rows} | spent


def table(machine: str) -> str:
    """The loss at every point; the lowest of each momentum and budget is bold."""
    record = load(machine, "track_rates", "track --grid")
    groups: dict[tuple[int, float], dict[tuple[float, float], float]] = {}
    for row in record["rows"]:
        group = groups.setdefault((row["steps"], row["momentum"]), {})
        group[row["rate"], row["rest_rate"]] = row["loss"]
    rows = []
    for (steps, momentum), losses in sorted(groups.items()):
        best = min(losses.values())
        for rest in sorted({rest for _, rest in losses}):
            cells = [losses.get((rate, rest)) for rate in RATES]
            shown = ["" if x is None else f"{x:.3f}" for x in cells]
            shown = [f"**{text}**" if x == best else text for x, text in zip(cells, shown)]
            rows.append([f"{steps}", f"{momentum:g}", f"{rest:g}", *shown])
    header = ["steps", "`beta`", "Adam's rate", *(f"`muon({rate:g})`" for rate in RATES)]
    return written(record, header, rows, left=3)
