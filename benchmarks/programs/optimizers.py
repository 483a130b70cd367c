"""The programs that are compared: whole updates, and the polar step of one matrix."""

from collections.abc import Callable
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import optax
from jax import Array, lax
from jax.sharding import SingleDeviceSharding

from benchmarks.optimizers import RATE, apply, of_optax
from benchmarks.programs.models import Model
from muon_optax import FLAX, METHODS, SVD, NewtonSchulz, Rule, muon

OURS, FAST, OPTAX, ADAMW = "muon", "muon, fast", "optax.contrib.muon", "optax.adamw"
# `q` is query, key and value in one, and is treated as one matrix.
DIMS = (Rule("query, key and value", r"(^|/)q/kernel$", "... in out"), *FLAX)
UPDATES: dict[str, Callable[[Model], optax.GradientTransformation]] = {
    OURS: lambda model: muon(RATE, dims=DIMS),
    FAST: lambda model: muon(RATE, METHODS["fast"], dims=DIMS),
    OPTAX: lambda model: of_optax(model.params),
    ADAMW: lambda model: optax.adamw(RATE, weight_decay=0.0),
}


def _qdwh(x: Array) -> Array:
    """QDWH takes tall matrices."""
    u, *_ = lax.linalg.qdwh(x.mT if x.shape[0] < x.shape[1] else x)
    return u.mT if x.shape[0] < x.shape[1] else u


POLARS: dict[str, Callable[[Array], Array]] = {
    "NewtonSchulz": NewtonSchulz().polar,
    "SVD": SVD().polar,
    "qdwh": _qdwh,
}
POLAR_SIDES = ((512, 512), (768, 768), (768, 3072))


def update_program(tx: optax.GradientTransformation, params: Any, device: jax.Device) -> tuple:
    """The function and the shapes of its three arguments, all on a device."""
    state = jax.eval_shape(tx.init, params)
    return partial(apply, tx), _placed((params, state, params), device)


def polar_program(name: str, m: int, n: int, device: jax.Device) -> tuple:
    """The function and the shape of its argument."""
    return POLARS[name], _placed((jax.ShapeDtypeStruct((m, n), jnp.float32),), device)


def _placed(shapes: Any, device: jax.Device) -> Any:
    sharding = SingleDeviceSharding(device)
    return jax.tree.map(
        lambda x: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=sharding), shapes
    )
