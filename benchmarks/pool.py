"""Small independent runs on every core, with a progress bar."""

import os
from collections.abc import Callable, Hashable, Iterator, Mapping
from concurrent.futures import Future, ProcessPoolExecutor, as_completed
from contextlib import contextmanager
from multiprocessing import get_context
from typing import Any
from unittest import mock

from rich.progress import track

from benchmarks import store

# One core a worker, of LAPACK's threads too.
ONE_CORE = {"XLA_FLAGS": "--xla_cpu_multi_thread_eigen=false", "OPENBLAS_NUM_THREADS": "1"}


@contextmanager
def open_pool(
    float64: bool = False, initializer: Callable[[], None] | None = None
) -> Iterator[ProcessPoolExecutor]:
    """As many processes as there are cores; at an error, what has not begun is dropped."""
    environment = ONE_CORE | {"JAX_ENABLE_X64": str(int(float64))}
    with (
        mock.patch.dict(os.environ, environment),
        ProcessPoolExecutor(os.cpu_count(), get_context("spawn"), initializer) as pool,
    ):
        try:
            yield pool
        except BaseException:
            pool.shutdown(cancel_futures=True)
            raise


def run_all(
    calls: Mapping[Hashable, tuple[Callable, tuple]], description: str, float64: bool = False
) -> dict[Hashable, Any]:
    """`{name: function(*arguments)}`, in as many processes as there are cores."""
    done = {}
    with open_pool(float64) as pool:
        names: dict[Future, Hashable] = {
            pool.submit(with_commits, function, *arguments): name
            for name, (function, arguments) in calls.items()
        }
        for future in track(as_completed(names), description, total=len(names)):
            done[names[future]], commits = future.result()
            store.COMMITS.update(commits)
    return {name: done[name] for name in calls}


def with_commits(function: Callable, *arguments: Any) -> tuple[Any, set[str]]:
    """The result, and the commits at which what it remembered was computed."""
    store.COMMITS.clear()
    return function(*arguments), {*store.COMMITS}
