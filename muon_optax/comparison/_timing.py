"""Timing of several calls in turns, after a warm-up, each call waited for."""

import random
import statistics
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import jax

from muon_optax._platform import Platform

ROUNDS = 7
SAMPLE_S = 0.01  # of a sample of short calls
# Before a sample: threads of LAPACK spin on after their work, into the next one's time.
PAUSE_S: dict[Platform, float] = {"cpu": 0.05, "gpu": 0.0, "tpu": 0.0}
PATIENCE_S = 5.0  # for all samples of one long call, but three are always taken


def current_platform() -> Platform:
    """What this process computes on, asked when a call is timed and never while tracing."""
    backend = jax.default_backend()
    return backend if backend in ("cpu", "tpu") else "gpu"


def take_turns(
    calls: Mapping[str, Callable[[], Any]],
    rounds: int = ROUNDS,
    samples: dict[str, list[float]] | None = None,
) -> dict[str, list[float]]:
    """Seconds per call of each, a list of samples, the first of all before the second of any.

    Within a turn the order is random, so that none always follows the same other one.
    A sample is one call, or as many short ones as fill `SAMPLE_S`, and the wait for the last
    result: on an accelerator, where calls queue, that leaves out the wait between them.
    `samples` is filled and returned: if the process is interrupted, it has what was taken.
    """
    pause = PAUSE_S[current_platform()]
    samples = {} if samples is None else samples
    samples |= {name: [] for name in calls}
    takes = {name: _warm(call) for name, call in calls.items()}
    repeats = {name: max(1, int(SAMPLE_S / seconds)) for name, seconds in takes.items()}
    limits = {name: rounds_for(seconds) for name, seconds in takes.items()}
    order, rng = list(calls), random.Random(0)
    for turn in range(rounds):
        rng.shuffle(order)
        for name in order:
            if turn < limits[name]:
                time.sleep(pause)
                samples[name].append(_sample(calls[name], repeats[name]))
    return samples


def rounds_for(seconds: float) -> int:
    """How many samples of a call that takes so long."""
    return min(ROUNDS, max(3, int(PATIENCE_S / seconds)))


def milliseconds(samples: list[float], count: int = 1) -> list[float]:
    """Of one of so many, to the digits that a sample can tell."""
    return [float(f"{1000 * s / count:.5g}") for s in samples]


def ratios(above: Sequence[float], below: Sequence[float]) -> list[float]:
    """Of the samples of two calls that were taken in the same turn."""
    return [a / b for a, b in zip(above, below)]


def spread(values: Sequence[float]) -> tuple[float, float, float]:
    """Smallest, median and largest."""
    return min(values), statistics.median(values), max(values)


def _warm(call: Callable[[], Any]) -> float:
    """Seconds of a second call; a long first one is warm enough."""
    first = _sample(call, 1)
    return first if first > PATIENCE_S else _sample(call, 1)


def _sample(call: Callable[[], Any], repeats: int) -> float:
    start = time.perf_counter()
    for _ in range(repeats):
        result = call()
    jax.block_until_ready(result)
    return (time.perf_counter() - start) / repeats
