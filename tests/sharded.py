"""A small model on eight devices, and what an error says to write, written."""

import functools

import jax
import jax.numpy as jnp
from jax.sharding import AxisType, NamedSharding, PartitionSpec

from benchmarks.hlo import collectives, count

P = PartitionSpec
KINDS = (AxisType.Auto, AxisType.Explicit)


def mesh_of(*kinds, shape=(4, 2), names=("fsdp", "tp")):
    kinds = kinds if len(kinds) == len(names) else (kinds or KINDS)[:1] * len(names)
    return jax.make_mesh(shape, names, kinds, devices=jax.devices("cpu")[:8])


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
    state, update = tx.init(params), jax.jit(tx.update)
    text = update.lower(params, state, params).compile().as_text()
    return update(params, state, params), count(collectives(text))


def written(line, **names):
    """What an error or a warning says to write, as it stands."""
    jax_names = {"jax": jax, "NamedSharding": NamedSharding, "PartitionSpec": PartitionSpec}
    return eval(line, jax_names | names)  # noqa: S307
