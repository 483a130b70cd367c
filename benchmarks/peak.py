"""The matmul peak of this machine: the rate at its best size, measured now."""

import functools
from collections.abc import Callable

import jax
import jax.numpy as jnp
from jax import Array

from muon_optax.comparison._timing import current_platform, take_turns
from muon_optax.polar._linalg import product

SIZES = (512, 1024, 2048, 4096, 8192, 16384)
LONG_S = 0.05  # no larger size is tried beyond


@functools.cache
def best_matmul(dtype: str) -> tuple[Callable[[], Array], int]:
    """A square product of this dtype, accumulated as a polar step's, and its operations.

    Of the sizes tried the one with the highest rate; ready to take turns with what is held
    against it.
    """
    best, best_rate = None, 0.0
    for n in SIZES:
        call = _matmul(n, dtype)
        seconds = min(take_turns({"matmul": call}, rounds=3)["matmul"])
        if 2 * n**3 / seconds > best_rate:
            best, best_rate = (call, 2 * n**3), 2 * n**3 / seconds
        if seconds > LONG_S:
            break
    return best


def rate(dtype: str) -> float:
    """Operations per second of it, the best of three."""
    call, operations = best_matmul(dtype)
    return operations / min(take_turns({"matmul": call}, rounds=3)["matmul"])


def _matmul(n: int, dtype: str) -> Callable[[], Array]:
    a, b = jax.random.normal(jax.random.key(n), (2, n, n), jnp.dtype(dtype))
    multiply = functools.partial(product, platform=current_platform())
    return functools.partial(jax.jit(multiply), a, b)
