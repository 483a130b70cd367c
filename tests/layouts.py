"""Parameter trees of public models: real paths and shapes, no weights."""

import functools
import json
import re
from collections import Counter
from pathlib import Path

import jax
import jax.numpy as jnp

from muon_optax import LAYOUTS, Rule, dims
from muon_optax._leaves import LeafError

FOLDER = Path(__file__).parent / "data"
# Those that the rules were written with, and those that were read once they were.
KNOWN, SET_ASIDE = (
    json.loads((FOLDER / f"{name}.json").read_text()) for name in ("layouts", "set_aside")
)
DATA = KNOWN | SET_ASIDE


@functools.cache
def leaves(model):
    """Path → (shape, readings that are right), every layer of its own."""
    found = {}
    for path, (shape, reading) in DATA[model]["leaves"].items():
        span = re.search(r"\{(\d+)\.\.(\d+)\}", path)
        numbers = range(int(span[1]), int(span[2]) + 1) if span else [""]
        for number in numbers:
            name = path.replace(span[0], str(number)) if span else path
            found[name] = shape, reading if isinstance(reading, list) else [reading]
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
    return LAYOUTS[DATA[model]["rules"]]


def is_right(path, view, shape, readings):
    """Whether Muon sees the same matrices, or the transposes of square ones."""
    for reading in readings:
        right = dims.view_of(reading, path, struct(shape))
        if _matrices(view) == _matrices(right):
            return True
        square = view and right and len({side for s in view.sides for side in s[1:]}) == 1
        if square and view.sides == right.sides:
            return True
    return False


def _matrices(view):
    """What Muon sees: the axes of every stack, whatever their names."""
    return view and (view.shape, view.batch, view.reduction, view.output, view.parts)


@functools.cache
def outcomes(model):
    """Path → `right`, `false alarm`, `marked` (wrong, and said), `refused` or `wrong`."""
    unknown, found = [], None
    while found is None:
        own = tuple(
            Rule("own", f"^{re.escape(path)}$", leaves(model)[path][1][0]) for path in unknown
        )
        try:
            found = dims.assign((*own, *rules(model)), params(model))
        except LeafError as error:
            unknown += error.paths
    result = {}
    for leaf in found:
        right = is_right(leaf.path, leaf.view, *leaves(model)[leaf.path])
        marked = ("false alarm" if right else "marked") if leaf.doubt else None
        outcome = marked or ("right" if right else "wrong")
        result[leaf.path] = "refused" if leaf.path in unknown else outcome
    return result


def count(models):
    """How many leaves of these models have each outcome."""
    return Counter(outcome for model in models for outcome in outcomes(model).values())


def by_rank(model):
    """What Optax's and rollfast's rule makes of the leaves: two axes are a matrix [in, out]."""
    result = Counter()
    for leaf in dims.assign(dims.RANK_TWO, params(model)):
        shape, readings = leaves(model)[leaf.path]
        right = is_right(leaf.path, leaf.view, shape, readings)
        matrix = readings[0] is not None
        wrong = "seen wrongly" if matrix and leaf.view else "left out" if matrix else "taken in"
        result["right" if right else wrong] += 1
    return result
