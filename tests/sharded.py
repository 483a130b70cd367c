"""Eight devices for tests: meshes, a step on them or on one, a small model, its shardings."""

import functools
import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import AxisType, NamedSharding, PartitionSpec

from benchmarks.hlo import collectives, count
from muon_optax import METHODS, scale_by_muon
from muon_optax.batching import _ownership

P = PartitionSpec
KINDS = (AxisType.Auto, AxisType.Explicit)


# A product of another batch is summed in another order. Under the paper's polynomials that is
# up to 4e-7 of the polar factor, under the default's 2e-6: 4e-8 in a parameter's update.
METHOD = METHODS["taylor2"]


@pytest.fixture(autouse=True, scope="module")
def forget_meshes():
    """JAX's inner functions remember the automatic mesh that they were first traced on."""
    yield
    jax.clear_caches()


@pytest.fixture
def divides_small_matrices(monkeypatch):
    """Matrices of a test are small, and would be left whole."""
    jax.clear_caches()
    monkeypatch.setitem(_ownership._SMALLEST_PART, "cpu", 0.0)
    yield
    jax.clear_caches()


def mesh_of(*kinds, shape=(4, 2), names=("fsdp", "tp")):
    """A mesh whose axes are of one kind, automatic unless said, or each of its own."""
    devices = jax.devices("cpu")[: math.prod(shape)]
    kinds = kinds if len(kinds) == len(names) else (kinds or KINDS)[:1] * len(names)
    return jax.make_mesh(shape, names, axis_types=kinds, devices=devices)


def close(found, expected, within):
    """Relative to what is expected, in the Frobenius norm: entries shrink as matrices grow."""
    for x, y in zip(jax.tree.leaves(found), jax.tree.leaves(expected), strict=True):
        assert np.linalg.norm(np.asarray(x) - y) <= within * np.linalg.norm(y)


def given(sharding):
    """What has to be said of a mesh whose axes are automatic."""
    leaves = jax.tree.leaves(sharding)
    return sharding if leaves[0].mesh.axis_types[0] == AxisType.Auto else None


def run(tx, x):
    """A step's program as text, its updates and the state after it."""
    compiled = jax.jit(tx.update).lower(x, tx.init(x), x).compile()
    return compiled.as_text(), *compiled(x, tx.init(x), x)


def on_eight(x, shardings, method=METHOD, **options):
    """The step on a mesh of eight; leaves are cut by one spec or by shardings."""
    if isinstance(shardings, P):
        shardings = NamedSharding(mesh_of(), shardings)
    tx = scale_by_muon(method, shardings=given(shardings), **options)
    return run(tx, jax.device_put(x, shardings))


def on_one(x, method=METHOD, **options):
    """One device's updates."""
    tx = scale_by_muon(method, **options)
    return jax.jit(tx.update)(x, tx.init(x))[0]


SPECS = {"a": {"kernel": P("fsdp", "tp")}, "b": {"kernel": P("tp"), "bias": P()}}


def plain_params():
    shapes = {"a": {"kernel": (8, 16)}, "b": {"kernel": (16, 6), "bias": (6,)}}
    return jax.tree.map(jnp.ones, shapes, is_leaf=lambda x: isinstance(x, tuple))


def on(mesh, specs=SPECS):
    return jax.tree.map(functools.partial(NamedSharding, mesh), specs)


def placed(mesh):
    return jax.device_put(plain_params(), on(mesh))


def step(tx, params):
    """A jitted step, and the collectives of its program."""
    state = tx.init(params)
    update = jax.jit(tx.update).lower(params, state, params).compile()
    return update(params, state, params), count(collectives(update.as_text()))


def written(line, **names):
    """What an error or a warning says to write, as it stands."""
    jax_names = {"jax": jax, "NamedSharding": NamedSharding, "PartitionSpec": PartitionSpec}
    return eval(line, jax_names | names)  # noqa: S307
