"""Timing of several calls in turns, after a warm-up."""

import random
import statistics
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import jax

from muon_optax._platform import Platform

ROUNDS = 7
SAMPLE_S = 0.01  # seconds of a sample of short calls
# A pause before each sample: LAPACK's threads keep spinning for a while after a call.
PAUSE_S: dict[Platform, float] = {"cpu": 0.05, "gpu": 0.0, "tpu": 0.0}
PATIENCE_S = 5.0  # seconds for all samples of a long call; at least three are taken


def current_platform() -> Platform:
    """The platform of this process. Call it to time a call, never while tracing."""
    backend = jax.default_backend()
    return backend if backend in ("cpu", "tpu") else "gpu"


def take_turns(
    calls: Mapping[str, Callable[[], Any]],
    rounds: int = ROUNDS,
    samples: dict[str, list[float]] | None = None,
) -> dict[str, list[float]]:
    """Samples of the seconds per call, taken in turns, in random order within a turn.

    A sample is one call, or as many short calls as fill `SAMPLE_S` with one wait for the last
    result. `samples` is filled and returned, so that after an interruption the caller has what
    was measured.
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
    """The number of samples of a call that takes so many seconds."""
    return min(ROUNDS, max(3, int(PATIENCE_S / seconds)))


def milliseconds(samples: list[float], count: int = 1) -> list[float]:
    """Milliseconds of one matrix out of `count`, to five digits."""
    return [float(f"{1000 * s / count:.5g}") for s in samples]


def ratios(above: Sequence[float], below: Sequence[float]) -> list[float]:
    """The ratios of the samples of two calls, turn by turn."""
    return [a / b for a, b in zip(above, below)]


def spread(values: Sequence[float]) -> tuple[float, float, float]:
    """Smallest, median and largest."""
    return min(values), statistics.median(values), max(values)


def _warm(call: Callable[[], Any]) -> float:
    """Seconds of a second call, or of the first if that is long."""
    first = _sample(call, 1)
    return first if first > PATIENCE_S else _sample(call, 1)


def _sample(call: Callable[[], Any], repeats: int) -> float:
    start = time.perf_counter()
    for _ in range(repeats):
        result = call()
    jax.block_until_ready(result)
    return (time.perf_counter() - start) / repeats
