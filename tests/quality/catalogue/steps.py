"""One small model, jitted steps of a library, and the expected update in float64."""

import functools
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax

from muon_optax.coefficients import Schedule
from tests.quality.catalogue.checks import check_close, double
from tests.quality.catalogue.libraries import Library

SHAPE = (8, 12)
SCALE = (12 / 8) ** 0.5  # the shape factor of that shape, in both libraries
FIVE = ((3.4445, -4.7750, 2.0315),) * 5  # Jordan et al. 2024, the default of both libraries
# A rounding error grows at most by the slope of the scalar map at 0; four of them may add up.
SLOPE = float(np.prod([stage[0] for stage in FIVE]))
TOLERANCE = 4 * SLOPE * float(jnp.finfo("float32").eps)
# `optax.contrib` multiplies in half precision: its update of `matrix()` is off by 0.046 in
# bfloat16. Ours multiplies in float32 on a CPU and is off by 0.001.
HALF_TOLERANCE = 0.1


def matrix(shape: tuple[int, ...] = SHAPE, seed: int = 0) -> np.ndarray:
    """Random singular vectors with singular values from 1 down to 0.3."""
    u, _, vh = np.linalg.svd(
        np.random.default_rng(seed).standard_normal(shape), full_matrices=False
    )
    return u * np.linspace(1.0, 0.3, min(shape[-2:])) @ vh


def params(**more: Any) -> dict[str, Any]:
    """The parameters of a model with one kernel and one bias."""
    return {"kernel": jnp.ones(SHAPE), "bias": jnp.ones(SHAPE[1]), **more}


def grads(**more: Any) -> dict[str, Any]:
    """Gradients for `params`."""
    bias = jnp.linspace(-1.0, 1.0, SHAPE[1])
    return {"kernel": jnp.asarray(matrix(), jnp.float32), "bias": bias, **more}


def exact_update(g: Any, schedule: Schedule = FIVE) -> np.ndarray:
    """`U·P(σ/‖σ‖)·Vᴴ` in float64: Newton-Schulz of `g`, which is Muon's first step."""
    u, sigma, vh = np.linalg.svd(double(g), full_matrices=False)
    sigma /= np.linalg.norm(sigma) or 1.0
    for stage in schedule:
        sigma = sum(c * sigma ** (2 * s + 1) for s, c in enumerate(stage))
    return u * sigma @ vh


def run(tx: optax.GradientTransformation, params: Any, *grads: Any, **extra: Any) -> Any:
    """The last update and state after one jitted step for each of the gradients."""
    state, step, updates = tx.init(params), jax.jit(tx.update), None
    for g in grads:
        updates, state = step(g, state, params, **extra)
    return updates, state


def one_step(make: Callable[[], optax.GradientTransformation]) -> Callable[[], Any]:
    """A function that makes an optimizer and returns the update of its first step."""
    return lambda: run(make(), params(), grads())[0]


def check_kernel(updates: Any, rate: float = 0.1) -> None:
    """Fail unless this is the first update of the kernel in `grads`."""
    expected = -rate * SCALE * exact_update(grads()["kernel"])
    check_close(updates["kernel"], expected, TOLERANCE, "update of the kernel")


@functools.cache
def _step(library: Library, options: tuple[tuple[str, Any], ...]) -> tuple[Any, Callable]:
    tx = library.scale_by_muon(**dict(options))
    return tx.init, jax.jit(tx.update)  # compiled once for all rows


def first_step(library: Library, g: Any, **options: Any) -> tuple[Any, Any]:
    """Update and state after the first step of `scale_by_muon` on one matrix."""
    init, update = _step(library, tuple(options.items()))
    return update(g, init(jnp.zeros_like(g)), jnp.zeros_like(g))


@contextmanager
def x64() -> Iterator[None]:
    """Enable float64 and complex128."""
    before = jax.config.read("jax_enable_x64")
    jax.config.update("jax_enable_x64", True)
    try:
        yield
    finally:
        jax.config.update("jax_enable_x64", before)
