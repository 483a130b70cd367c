"""Knows how to run one function over many matrices: one call for all of equal sides."""

import math
from collections import defaultdict
from collections.abc import Callable, Sequence

import jax.numpy as jnp
from jax import Array, lax

DEFAULT_MAX_BYTES = 2**28


def map_stacked(
    function: Callable[[Array], Array],
    stacks: Sequence[Array],
    max_bytes: int | None = None,
) -> list[Array]:
    """`[function(x) for x in stacks]`, with one call per bucket of equal matrices.

    Matrices share a bucket when their dtype and their sides agree, in either order: tall
    ones are transposed. `function` therefore has to commute with transposition and with
    slicing along the batch axis, as a polar factor does.

    Args:
      function: From `[batch, m, n]` to the same shape and dtype.
      stacks: Arrays `[batch, m, n]`, of any sizes.
      max_bytes: The largest array that `function` gets; a larger bucket goes through it in
        slices, one after the other. None stands for 256 MiB.

    Returns:
      The results, in the order and shapes of `stacks`.

    Example:
      >>> wide, tall = jnp.ones((1, 2, 3)), jnp.ones((2, 3, 2))
      >>> calls = []
      >>> halves = map_stacked(lambda x: (calls.append(x.shape), x / 2)[1], [wide, tall])
      >>> calls, [half.shape for half in halves]
      ([(3, 2, 3)], [(1, 2, 3), (2, 3, 2)])
    """
    buckets = defaultdict(list)
    for index, x in enumerate(stacks):
        buckets[(*sorted(x.shape[1:]), x.dtype)].append(index)
    results = list(stacks)
    for indices in buckets.values():
        stack = jnp.concatenate([_wide(stacks[i]) for i in indices])
        parts = _in_slices(function, stack, max_bytes or DEFAULT_MAX_BYTES)
        start = 0
        for i in indices:
            stop = start + len(stacks[i])
            part = parts[start:stop]
            results[i] = part if part.shape == stacks[i].shape else part.mT
            start = stop
    return results


def _wide(x: Array) -> Array:
    return x.mT if x.shape[1] > x.shape[2] else x


def _in_slices(function: Callable[[Array], Array], stack: Array, max_bytes: int) -> Array:
    matrix = stack.shape[1:]
    size = max(1, int(max_bytes) // max(1, math.prod(matrix) * stack.dtype.itemsize))
    if len(stack) <= size:
        return function(stack)
    whole = len(stack) // size * size
    parts = lax.map(function, stack[:whole].reshape(-1, size, *matrix)).reshape(-1, *matrix)
    rest = [function(stack[whole:])] if whole < len(stack) else []
    return jnp.concatenate([parts, *rest])
