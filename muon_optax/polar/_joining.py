"""Joining stacks along their batch axis, so that one product serves many matrices."""

import math
from collections.abc import Callable, Hashable, Sequence

import jax.numpy as jnp
import numpy as np
from jax import Array


def group_indices(keys: Sequence[Hashable]) -> list[list[int]]:
    """Return the positions of equal keys, in the order of first appearance."""
    positions: dict[Hashable, list[int]] = {}
    for index, key in enumerate(keys):
        positions.setdefault(key, []).append(index)
    return list(positions.values())


def map_joined(function: Callable[..., Array], *lists: Sequence[Array]) -> list[Array]:
    """Return `[function(*xs) for xs in zip(*lists)]` for arrays `[..., m, n]`, in one call."""
    shapes = [x.shape for x in lists[0]]
    return split(function(*map(join, lists)), shapes)


def join(arrays: Sequence[Array]) -> Array:
    """Join arrays `[..., m, n]` to one stack; return a single array unchanged."""
    if len(arrays) == 1:  # in jax.export the size of its batch may be symbolic
        return arrays[0]
    return jnp.concatenate([x.reshape(-1, *x.shape[-2:]) for x in arrays])


def split(stack: Array, shapes: Sequence[tuple[int, ...]]) -> list[Array]:
    """Invert `join`, and return arrays of these shapes."""
    if len(shapes) == 1:
        return [stack]
    ends = np.cumsum([math.prod(shape[:-2]) for shape in shapes])
    parts = jnp.split(stack, ends[:-1])
    return [x.reshape(*shape[:-2], *x.shape[1:]) for x, shape in zip(parts, shapes)]
