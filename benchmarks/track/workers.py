"""Runs on every core of a CPU, or in turn on an accelerator, with a bar for all of them."""

from collections.abc import Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from contextlib import contextmanager
from functools import partial

import jax
from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn

from benchmarks.pool import open_pool, with_commits
from benchmarks.track.entry import find, names
from benchmarks.track.training import Job, train


class Workers:
    """Runs jobs in the order given and moves the bar by their steps."""

    def __init__(self, pool: ProcessPoolExecutor | None, progress: Progress, total: float):
        self.map, self.progress = pool.map if pool else map, progress
        self.bar = progress.add_task("training", total=total)
        self.begin_count()

    def begin_count(self) -> None:
        """Count the cost and the commits of runs from here on, of remembered ones too."""
        self.cpu_s, self.commits = 0.0, set[str]()

    def run_all(self, jobs: Sequence[Job]) -> list[dict]:
        """What `train` finds of every job."""
        found = []
        for job, run in zip(jobs, self.map(partial(with_commits, train), jobs)):
            result, commits = run
            found.append(result)
            self.commits |= commits
            self.cpu_s += result["cpu_s"]
            text = f"{job.task}, {job.entry}"
            self.progress.update(self.bar, advance=job.steps, description=text)
        if not self.progress.console.is_terminal:  # and so no bar
            self.progress.print(f"{text}: {len(jobs)} runs of {jobs[-1].steps} steps")
        return found


@contextmanager
def open_workers(total: float) -> Iterator[Workers]:
    """Processes that keep what they compiled, one a core; none if there is an accelerator."""
    columns = TextColumn("{task.description}"), BarColumn(), TimeRemainingColumn()
    with Progress(*columns, speed_estimate_period=600) as progress:
        if jax.default_backend() != "cpu":
            yield Workers(None, progress, total)
        else:
            with open_pool(initializer=_find_all) as pool:
                yield Workers(pool, progress, total)


def _find_all() -> None:
    """Read every entry at the start, so that all are of the commit that results name."""
    for name in names():
        find(name)
