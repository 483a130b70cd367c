"""Runs on every core of a CPU, or in turn on an accelerator, with a bar for all of them."""

import os
from collections.abc import Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from contextlib import contextmanager
from multiprocessing import get_context
from unittest import mock

import jax
from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn

from benchmarks import store
from benchmarks.pool import ONE_CORE
from benchmarks.track.training import Job, train


class Workers:
    """Runs jobs in the order given and moves the bar by their steps."""

    def __init__(self, pool: ProcessPoolExecutor | None, progress: Progress, total: float):
        self.pool, self.progress = pool, progress
        self.bar = progress.add_task("training", total=total)
        self.cpu_s = 0.0  # of all runs so far, remembered ones too

    def run_all(self, jobs: Sequence[Job]) -> list[dict]:
        """What `train` finds of every job."""
        found = []
        runs = map(_train, jobs) if self.pool is None else self.pool.map(_train, jobs)
        for job, (result, commits) in zip(jobs, runs):
            store.COMMITS.update(commits)
            found.append(result)
            self.cpu_s += result["cpu_s"]
            text = f"{job.task}, {job.entry}"
            self.progress.update(self.bar, advance=job.steps, description=text)
        return found


@contextmanager
def open_workers(total: float) -> Iterator[Workers]:
    """Processes that keep what they compiled, one a core; none beside an accelerator."""
    columns = TextColumn("{task.description}"), BarColumn(), TimeRemainingColumn()
    with Progress(*columns, speed_estimate_period=600) as progress:
        if jax.default_backend() != "cpu":
            yield Workers(None, progress, total)
            return
        with (
            mock.patch.dict(os.environ, ONE_CORE),
            ProcessPoolExecutor(os.cpu_count(), mp_context=get_context("spawn")) as pool,
        ):
            try:
                yield Workers(pool, progress, total)
            except BaseException:
                pool.shutdown(cancel_futures=True)
                raise


def _train(job: Job) -> tuple[dict, set[str]]:
    """The result, and where it was computed."""
    return train(job), store.COMMITS
