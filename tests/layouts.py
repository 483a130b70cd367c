"""Parameter trees of public JAX models: real paths and shapes, no weights."""

import json
import re
from pathlib import Path

import jax
import jax.numpy as jnp

from muon_optax import LAYOUTS, Rule

DATA = json.loads((Path(__file__).parent / "data/layouts.json").read_text())


def leaves(model):
    """Path → (shape, reading), every layer of its own."""
    found = {}
    for path, leaf in DATA[model]["leaves"].items():
        span = re.search(r"\{(\d+)\.\.(\d+)\}", path)
        numbers = range(int(span[1]), int(span[2]) + 1) if span else [""]
        for number in numbers:
            found[path.replace(span[0], str(number)) if span else path] = leaf
    return found


def struct(shape):
    return jax.ShapeDtypeStruct(tuple(shape), jnp.float32)


def params(model):
    """The model's tree as nested dicts of `jax.ShapeDtypeStruct`s."""
    tree = {}
    for path, (shape, _) in leaves(model).items():
        *nodes, last = path.split("/")
        inner = tree
        for node in nodes:
            inner = inner.setdefault(node, {})
        inner[last] = struct(shape)
    return tree


def rules(model):
    """What its user would pass as `dims`."""
    entry = DATA[model]
    head = (Rule("output head", entry["head"], None),) if "head" in entry else ()
    return (*head, *LAYOUTS[entry["rules"]])
