"""Trees of shapes and tables of what they should be read as, in few words."""

import jax
import jax.numpy as jnp

from muon_optax import FLAX
from muon_optax.dims import assign


def sides(params, dims=FLAX):
    """Path → (batch, fan_in, fan_out), or None for the fallback."""
    return {leaf.path: leaf.view and leaf.view.sides[0] for leaf in assign(dims, params)}


def numbers(text):
    return tuple(map(int, text.split(","))) if text else ()


def leaves(text):
    """The tree of `path:shape` words."""
    tree = {}
    for word in text.split():
        path, shape = word.split(":")
        *nodes, name = path.split("/")
        node = tree
        for key in nodes:
            node = node.setdefault(key, {})
        node[name] = jax.ShapeDtypeStruct(numbers(shape), jnp.float32)
    return tree


def table(text):
    """Path → sides, of `path` or `path:sides` words."""
    entries = (word.partition(":") for word in text.split())
    return {path: numbers(found) if found else None for path, _, found in entries}


def under(prefix, table):
    return {f"{prefix}/{name}": value for name, value in table.items()}
