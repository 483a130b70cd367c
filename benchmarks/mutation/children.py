"""Knows how to call a function in a process of its own that has imported all but the package.

A server imports JAX, Optax, Flax and pytest once, makes no backend, and forks a child per call.
"""

import os
import signal
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from multiprocessing import get_context
from multiprocessing.connection import Connection
from typing import Any

from rich.progress import track

from benchmarks import store

FORKS = get_context("forkserver")
IMPORTED = ["jax", "optax.contrib", "flax.nnx", "chex", "coverage", "hypothesis", "pytest"]
IMPORTED += ["cosmic_ray.mutating"]


def prepare() -> None:
    """Set what every child inherits; before the first call."""
    os.environ |= {
        "JAX_PLATFORMS": "cpu",
        "JAX_DISABLE_MOST_OPTIMIZATIONS": "1",  # as in tests/conftest.py, before JAX comes
        "OPENBLAS_NUM_THREADS": "1",  # a process with threads cannot be forked
        # A mutant leaves most programs as they are: compiled once, they are read.
        "JAX_COMPILATION_CACHE_DIR": str(store.folder() / "programs"),
        "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS": "0",
        "JAX_PERSISTENT_CACHE_MIN_ENTRY_SIZE_BYTES": "-1",
    }
    FORKS.set_forkserver_preload(IMPORTED)


def each(work: Callable, items: Sequence, description: str) -> list:
    """`[work(item)]`, as many at a time as there are cores; what is left ends with an error."""
    with ThreadPoolExecutor(os.cpu_count()) as threads:
        try:
            return list(track(threads.map(work, items), description, total=len(items)))
        except BaseException:
            threads.shutdown(cancel_futures=True)
            raise


def call(limit: float, function: Callable, *arguments: Any) -> Any:
    """What a function of a module returns, or raises, in a child that lives `limit` seconds.

    Raises:
        TimeoutError: If it takes longer.
        ChildProcessError: If the child dies.
    """
    receiver, sender = FORKS.Pipe(duplex=False)
    began = time.perf_counter()
    FORKS.Process(target=_answer, args=(limit, sender, function, arguments)).start()
    sender.close()
    receiver.recv()  # EOFError if it cannot begin: no verdict on a mutant
    try:
        answer = receiver.recv()
    except EOFError as died:
        # Not told by its exit code, which another thread's start may have read.
        late = time.perf_counter() - began >= limit
        raise (TimeoutError if late else ChildProcessError)("no answer") from died
    if isinstance(answer, Exception):
        raise answer
    return answer


def _answer(limit: float, sender: Connection, function: Callable, arguments: Sequence) -> None:
    """What runs in the child, quietly; an alarm that nobody hears ends it, whatever it does."""
    signal.setitimer(signal.ITIMER_REAL, limit)
    sender.send("begun")
    silence = os.open(os.devnull, os.O_WRONLY)
    os.dup2(silence, 1)
    os.dup2(silence, 2)
    try:
        answer = function(*arguments)
    except Exception as error:
        answer = error
    sender.send(answer)
    os._exit(0)  # without waiting for threads
