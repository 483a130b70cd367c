"""The contenders: every method and family of ours with several steps, and the others."""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

import jax
import jax.numpy as jnp
from jax import Array

from muon_optax import METHODS, NewtonSchulz, PolarMethod, theory
from muon_optax.coefficients import FAMILIES, JORDAN
from muon_optax.comparison._contenders import OptaxMuon
from muon_optax.comparison._timing import current_platform

STEPS = (3, 5, 8, 12)


@dataclass(frozen=True)
class Contender:
    """`polar` takes `[count, m, n]` and keeps shape and dtype."""

    polar: Callable[[Array], Array]
    flops: Callable[[int, int], int] | None = None
    """On one m × n matrix of float32, of what is made of products."""
    products: str | None = "float32"
    """The dtype of their operands; None for that of the input."""


def ours(method: PolarMethod) -> Contender:
    """A polar method of the library."""
    if not isinstance(method, NewtonSchulz):
        return Contender(method.polar)
    plan = partial(method.plan, platform=current_platform())
    return Contender(method.polar, lambda m, n: plan(m, n).flops, plan(1, 1).dtype)


def qdwh(x: Array) -> Array:
    """QDWH, one matrix after another; it takes tall ones, of float32."""

    def one(x: Array) -> Array:
        tall = x if x.shape[0] >= x.shape[1] else x.T
        u = jax.lax.linalg.qdwh(tall.astype(jnp.float32))[0]
        return u if tall is x else u.T

    return jax.lax.map(one, x).astype(x.dtype)


def scipy_polar(x: Array) -> Array:
    """SciPy's interface in JAX, which returns the other factor as well."""

    def one(x: Array) -> Array:
        side = "right" if x.shape[0] >= x.shape[1] else "left"
        return jax.scipy.linalg.polar(x.astype(jnp.float32), side)[0]

    return jax.lax.map(one, x).astype(x.dtype)


def too_small(x: Array) -> Array:
    """The exact polar factor times 0.6: what a wrong result looks like."""
    return 0.6 * METHODS["svd"].polar(x)


def _steps_of_families() -> dict[str, NewtonSchulz]:
    return {
        f"{name} q={steps}": NewtonSchulz(family, steps)
        for name, family in FAMILIES.items()
        for steps in STEPS
        if family.tail == "repeat" or steps <= len(family.stages)
    }


def _in_half_precision() -> dict[str, NewtonSchulz]:
    return {
        f"{name} q=5, {dtype} products": NewtonSchulz(name, 5, compute_dtype=dtype)
        for name in ("jordan", "you")
        for dtype in ("bfloat16", "float16")
    }


def _table() -> dict[str, Contender]:
    methods = _steps_of_families()
    methods |= {name: m for name, m in METHODS.items() if m not in methods.values()}
    methods |= _in_half_precision()
    return {name: ours(method) for name, method in methods.items()} | {
        "qdwh": Contender(qdwh),
        "scipy polar": Contender(scipy_polar),
        "optax.contrib": Contender(
            OptaxMuon().polar, partial(theory.flops, JORDAN.schedule(5)), None
        ),
        "svd × 0.6": Contender(too_small),
    }


CONTENDERS: dict[str, Contender] = _table()
