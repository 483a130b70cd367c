"""Optimizers on fixed tasks, with statistics: `python -m benchmarks track`.

An entry is a file of `entries/`, a task is a module here. The same search tunes every entry on
the tuning data. Then every entry trains with `SEEDS` and is judged on the test data. With the
same seed, all entries start from the same weights and see the same batches. You can stop a run
at any time. It continues from what build/benchmarks remembers.
"""

from collections.abc import Iterable, Sequence
from unittest import mock

import jax

from benchmarks.record import folder, provenance, save
from benchmarks.track import finetuning, gpt, inference, rates, tuning
from benchmarks.track.entry import Settings, find, names
from benchmarks.track.tables import AGAIN, REFERENCE, finals, interval, load
from benchmarks.track.tasks import MAKERS, task
from benchmarks.track.training import Job, run, time_steps
from benchmarks.track.workers import Workers, open_workers

SEEDS = range(16)
OTHER_SEEDS = range(16, 32)
SHORTEST = ("images", "lora")  # lora has the GPT in it


def main(
    smoke: bool = False,
    tasks: Sequence[str] = (),
    entries: Sequence[str] = (),
    again: bool = False,
    grid: bool = False,
) -> None:
    """Every entry on every task, or those that are named; a file each, as they come."""
    if smoke:
        return run_shortest()
    if grid and (tasks or entries or again):
        raise ValueError("--grid runs Muon on gpt; use it without --task, --entry and --again")
    if grid:
        made_by, measured = provenance(), rates.measure()
        made_by |= {"commits": measured.pop("commits")}
        print(save("track_rates", made_by, measured))
        return None
    large = jax.default_backend() != "cpu"
    pairs = [
        (t, e) for t in tasks or MAKERS for e in entries or task(t, large).entries or names()
    ]
    jobs = [prepare(of_task, of_entry, large, again) for of_task, of_entry in pairs]
    runs = len(OTHER_SEEDS) if again else tuning.jobs_of_search() + len(SEEDS)
    with open_workers(sum(runs * job.steps for job in jobs)) as workers:
        for job in jobs:
            made_by = provenance()
            workers.begin_count()
            measured = test(job, OTHER_SEEDS, workers) if again else study(job, workers)
            made_by |= {"commits": sorted(workers.commits)}
            measured |= {"cpu_s": round(workers.cpu_s, 1)}
            where = folder() / "track" / job.task / (AGAIN if again else "")
            loss = interval(inference.estimate(finals(measured)))
            workers.progress.print(f"{find(job.entry).title}: {loss}")
            workers.progress.print(save(job.entry, made_by, measured, where))


def prepare(of_task: str, of_entry: str, large: bool, again: bool) -> Job:
    """A job at the entry's start, or at the settings that were found."""
    settings = find(of_entry).start
    if again:
        found = load(folder().name, of_task, [of_entry])[of_entry]["settings"]
        settings = Settings(**found)
    return Job(of_task, of_entry, settings, 0, task(of_task, large).steps, large=large)


def study(job: Job, workers: Workers) -> dict:
    """An entry tuned, its losses on the test data with every seed, and its time of a step."""
    on = task(job.task, job.large)
    start = tuning.scale(find(job.entry).start, on.start)
    best, searched = tuning.search(job, start, workers.run_all, on.eval_every)
    found = test(job._replace(settings=best), SEEDS, workers)
    return found | {"search": searched, "step_s": time_steps(job, REFERENCE)}


def test(job: Job, seeds: Iterable[int], workers: Workers) -> dict:
    """The losses on the test data with every seed, and what they are of."""
    on = task(job.task, job.large)
    jobs = [job._replace(seed=seed, judged="test") for seed in seeds]
    return {
        "task": on.title,
        "data": on.fingerprint(),
        "steps": on.steps,
        "eval_every": on.eval_every,
        "target": on.target,
        "settings": job.settings._asdict(),
        "losses": [found["loss"] for found in workers.run_all(jobs)],
    }


def run_shortest() -> None:
    """One evaluation of Muon on every model; nothing is trained before."""

    def untrained(seed: int, **_: object) -> object:
        return gpt.make().init(seed)[0]

    with mock.patch.object(finetuning, "pretrained", untrained):
        for name in SHORTEST:
            steps = task(name).eval_every
            assert run(Job(name, "muon", find("muon").start, 0, steps))["loss"]
