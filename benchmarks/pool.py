"""Small independent runs on every core, with a progress bar."""

import os
from collections.abc import Callable, Hashable, Mapping
from concurrent.futures import Future, ProcessPoolExecutor, as_completed
from multiprocessing import get_context
from typing import Any
from unittest import mock

from rich.progress import track

from benchmarks import store

# One core a worker, of LAPACK's threads too.
ONE_CORE = {"XLA_FLAGS": "--xla_cpu_multi_thread_eigen=false", "OPENBLAS_NUM_THREADS": "1"}


def run_all(
    calls: Mapping[Hashable, tuple[Callable, tuple]], description: str, float64: bool = False
) -> dict[Hashable, Any]:
    """`{name: function(*arguments)}`, in as many processes as there are cores."""
    environment = ONE_CORE | {"JAX_ENABLE_X64": str(int(float64))}
    with (
        mock.patch.dict(os.environ, environment),
        ProcessPoolExecutor(os.cpu_count(), mp_context=get_context("spawn")) as workers,
    ):
        names: dict[Future, Hashable] = {
            workers.submit(_with_commits, function, arguments): name
            for name, (function, arguments) in calls.items()
        }
        done = {}
        try:
            for future in track(as_completed(names), description, total=len(names)):
                done[names[future]], commits = future.result()
                store.COMMITS.update(commits)
        except BaseException:
            workers.shutdown(cancel_futures=True)
            raise
    return {name: done[name] for name in calls}


def _with_commits(function: Callable, arguments: tuple) -> tuple[Any, set[str]]:
    """The result, and where what it remembered was computed."""
    return function(*arguments), store.COMMITS
