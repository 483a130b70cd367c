"""Knows how a library is run here, and by the definition in float64 what should come of it."""

import functools
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax

from benchmarks.catalogue.judging import agree, wide
from benchmarks.catalogue.libraries import Library
from muon_optax.coefficients import Schedule

SHAPE = (8, 12)
SCALE = (12 / 8) ** 0.5  # the factor of that shape, in both
FIVE = ((3.4445, -4.7750, 2.0315),) * 5  # Jordan et al. 2024, the default of both
# A rounding error grows by at most the slope of the scalar map at 0; four of them may add up.
SLOPE = float(np.prod([stage[0] for stage in FIVE]))
WITHIN = 4 * SLOPE * float(jnp.finfo("float32").eps)
# Products of half precision, as `optax.contrib` has them, err more: its update of `matrix()`
# is off by 0.046 in bfloat16, ours by 0.001, whose products on a CPU are of float32.
WITHIN_HALF = 0.1


def matrix(shape: tuple[int, ...] = SHAPE, seed: int = 0, lowest: float = 0.3) -> np.ndarray:
    """Of random singular vectors, its singular values from 1 down to `lowest`."""
    rng, r = np.random.default_rng(seed), min(shape[-2:])
    u, _, vh = np.linalg.svd(rng.standard_normal(shape), full_matrices=False)
    return u * np.linspace(1.0, lowest, r) @ vh


def params(**more: Any) -> dict[str, Any]:
    """Of a model of one kernel and one bias."""
    return {"kernel": jnp.ones(SHAPE), "bias": jnp.ones(SHAPE[1]), **more}


def grads(**more: Any) -> dict[str, Any]:
    """For `params`."""
    return {
        "kernel": jnp.asarray(matrix(), jnp.float32),
        "bias": jnp.linspace(-1.0, 1.0, SHAPE[1]),
        **more,
    }


def exact_update(g: Any, schedule: Schedule = FIVE) -> np.ndarray:
    """`U·P(σ/‖σ‖)·Vᴴ` in float64: what Newton-Schulz makes of `g`, and so Muon's first step."""
    u, sigma, vh = np.linalg.svd(wide(g), full_matrices=False)
    sigma /= np.linalg.norm(sigma) or 1.0
    for stage in schedule:
        sigma = sum(c * sigma ** (2 * s + 1) for s, c in enumerate(stage))
    return u * sigma @ vh


def run(tx: optax.GradientTransformation, params: Any, *grads: Any, **extra: Any) -> Any:
    """The last update and state of jitted steps."""
    state, step, updates = tx.init(params), jax.jit(tx.update), None
    for g in grads:
        updates, state = step(g, state, params, **extra)
    return updates, state


def trial(make: Callable[[], optax.GradientTransformation]) -> Callable[[], Any]:
    """To be called: make an optimizer and take one step with it."""
    return lambda: run(make(), params(), grads())[0]


def check_kernel(updates: Any, rate: float = 0.1) -> None:
    """Refuse any but the first update of the kernel in `grads`."""
    expected = -rate * SCALE * exact_update(grads()["kernel"])
    agree(updates["kernel"], expected, WITHIN, "update of the kernel")


@functools.cache
def _step(library: Library, options: tuple[tuple[str, Any], ...]) -> tuple[Any, Callable]:
    tx = library.scale_by_muon(**dict(options))
    return tx.init, jax.jit(tx.update)  # compiled once for all rows that take it


def first_step(library: Library, g: Any, **options: Any) -> tuple[Any, Any]:
    """What `scale_by_muon` makes of one matrix in its first step: update and state."""
    init, update = _step(library, tuple(options.items()))
    return update(g, init(jnp.zeros_like(g)), jnp.zeros_like(g))


@contextmanager
def x64() -> Iterator[None]:
    """With float64 and complex128."""
    before = jax.config.read("jax_enable_x64")
    jax.config.update("jax_enable_x64", True)
    try:
        yield
    finally:
        jax.config.update("jax_enable_x64", before)
