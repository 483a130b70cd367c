"""The timing of several calls in turns, after a warm-up."""

import random
import statistics
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import jax

from muon_optax._platform import Platform

ROUNDS = 7
SAMPLE_S = 0.01  # seconds of a sample of short calls
# A pause before each sample, because LAPACK's threads keep spinning for a while after a call.
PAUSE_S: dict[Platform, float] = {"cpu": 0.05, "gpu": 0.0, "tpu": 0.0}
PATIENCE_S = 5.0  # seconds for all samples of a long call; at least three are taken


def current_platform() -> Platform:
    """Return the platform of this process. Use it to time a call, never while tracing."""
    backend = jax.default_backend()
    return backend if backend in ("cpu", "tpu") else "gpu"


def take_turns(
    calls: Mapping[str, Callable[[], Any]],
    rounds: int = ROUNDS,
    samples: dict[str, list[float]] | None = None,
) -> dict[str, list[float]]:
    """Sample the seconds per call of each function, in turns of random order.

    A sample times one call, or as many short calls as take `SAMPLE_S` seconds together, and
    waits only for the last result. `samples` is filled in place and returned. So after an
    interruption, the caller has what was measured.
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
    """Return how many samples to take of a call that takes `seconds`."""
    return min(ROUNDS, max(3, int(PATIENCE_S / seconds)))


def milliseconds(samples: list[float], count: int = 1) -> list[float]:
    """Convert seconds for `count` matrices to milliseconds per matrix, with five digits."""
    return [float(f"{1000 * s / count:.5g}") for s in samples]


def ratios(above: Sequence[float], below: Sequence[float]) -> list[float]:
    """Return the ratios of the samples of two calls, turn by turn."""
    return [a / b for a, b in zip(above, below)]


def spread(values: Sequence[float]) -> tuple[float, float, float]:
    """Return the smallest value, the median and the largest value."""
    return min(values), statistics.median(values), max(values)


def _warm(call: Callable[[], Any]) -> float:
    """Return the seconds of a second call, or of the first call if it takes long."""
    first = _sample(call, 1)
    return first if first > PATIENCE_S else _sample(call, 1)


def _sample(call: Callable[[], Any], repeats: int) -> float:
    start = time.perf_counter()
    for _ in range(repeats):
        result = call()
    jax.block_until_ready(result)
    return (time.perf_counter() - start) / repeats
