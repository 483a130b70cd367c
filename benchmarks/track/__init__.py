"""Optimizers on fixed tasks, tuned alike, with statistics: `python -m benchmarks track`.

One entry is a file of `entries/`, one task a module here. Every entry is tuned on the tuning
data by the same search, then trained with `SEEDS` and judged on the test data: with one seed
all entries start from the same weights and see the same batches. A run can be stopped at any
time and continues from what build/benchmarks remembers.
"""

from collections.abc import Sequence

import jax

from benchmarks import store
from benchmarks.record import folder, provenance, save
from benchmarks.track import tuning
from benchmarks.track.entry import find, names
from benchmarks.track.training import Job, run, task
from benchmarks.track.workers import Workers, open_workers

TASKS = ("gpt",)
SEEDS = range(16)


def main(
    smoke: bool = False, tasks: Sequence[str] = TASKS, entries: Sequence[str] = ()
) -> None:
    """Every entry on every task, or those that are named; a file each, as they come."""
    if smoke:
        return run_shortest()
    large = jax.default_backend() != "cpu"
    pairs = [(t, e) for t in tasks for e in entries or task(t, large).entries or names()]
    runs = tuning.jobs_of_search() + len(SEEDS)
    with open_workers(sum(runs * task(t, large).steps for t, _ in pairs)) as workers:
        for of_task, of_entry in pairs:
            store.COMMITS.clear()
            made_by = provenance()
            measured = study(of_task, of_entry, workers, large)
            commits = {"commits": sorted(store.COMMITS)}
            where = folder() / "track" / of_task
            workers.progress.print(save(of_entry, made_by | commits, measured, where))


def study(of_task: str, of_entry: str, workers: Workers, large: bool = False) -> dict:
    """An entry tuned, and its losses on the test data with every seed."""
    on, of, before = task(of_task, large), find(of_entry), workers.cpu_s
    job = Job(of_task, of_entry, of.start, 0, on.steps, "tuning", large)
    best, searched = tuning.search(job, of.start, workers.run_all, on.eval_every)
    jobs = [job._replace(settings=best, seed=seed, judged="test") for seed in SEEDS]
    found = workers.run_all(jobs)
    return {
        "title": of.title,
        "data": on.fingerprint(),
        "steps": on.steps,
        "eval_every": on.eval_every,
        "settings": best._asdict(),
        "search": searched,
        "losses": [run["loss"] for run in found],
        "cpu_s": round(workers.cpu_s - before, 1),
    }


def run_shortest() -> None:
    """One evaluation of Muon on every task."""
    for name in TASKS:
        steps = task(name).eval_every
        assert run(Job(name, "muon", find("muon").start, 0, steps, "tuning"))["loss"]
