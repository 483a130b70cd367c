"""The time of a call that would take too long, estimated from smaller matrices."""

import time
from collections.abc import Callable

import jax

PATIENCE_S = 20.0  # seconds for compilation and one call

Prepare = Callable[[int, int], Callable[[], object]]  # m, n → a compiled call


def extrapolate(prepare: Prepare, m: int, n: int) -> tuple[float, str] | None:
    """Estimate the seconds of a call; also say from what. None if the call is short enough.

    Two smaller matrices show how the time grows when m and n double.
    """
    quarter, half = ((max(1, m // part), max(1, n // part)) for part in (4, 2))
    (first, waited), (second, waited_longer) = (
        _time(prepare, *sides) for sides in (quarter, half)
    )
    if waited_longer * _growth(waited, waited_longer) < PATIENCE_S:
        return None
    source = " and ".join("{}×{}".format(*sides) for sides in (quarter, half))
    return second * _growth(first, second), f"estimated from {source}"


def _growth(first: float, second: float) -> float:
    """Return the growth of the time when m and n double: between 4 and 16, about 8."""
    return min(max(4.0, second / first), 16.0)


def _time(prepare: Prepare, m: int, n: int) -> tuple[float, float]:
    """Return the seconds of a warm call, and the total with compilation and warm-up."""
    start = time.perf_counter()
    call = prepare(m, n)
    jax.block_until_ready(call())
    warm = time.perf_counter()
    jax.block_until_ready(call())
    done = time.perf_counter()
    return done - warm, done - start
