"""Knows how to run one function over many matrices: one call for all that can share it."""

import functools
from collections import defaultdict
from collections.abc import Callable, Hashable, Sequence

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array, lax

_LARGE_BYTES = 2**21


def map_stacked(
    function: Callable[[list[Array]], list[Array]],
    stacks: Sequence[Array],
    max_bytes: int | None = None,
    key: Callable[[Sequence[int], np.dtype], Hashable] | None = None,
) -> list[Array]:
    """`function` of many stacks of matrices, with one call for all that share a key.

    Stacks share a call when their keys agree, by default dtype and sides in either order. Tall
    matrices are transposed, and equal ones joined to one stack. `function` therefore has to
    commute with transposition and with slicing along the batch axis, as a polar factor does.

    Args:
      function: From `[batch, m, n]` arrays, m ≤ n, to as many of the same shapes and dtypes.
      stacks: Arrays `[batch, m, n]`, of any sizes.
      max_bytes: The most that one call gets. Where a key has more, each pair of sides has
        calls of its own, in slices if need be, one after the other. None stands for 16 MiB
        on a CPU and 256 MiB on an accelerator.
      key: From `(m, n)` with m ≤ n and dtype.

    Returns:
      The results, in the order and shapes of `stacks`.

    Example:
      >>> wide, tall = jnp.ones((1, 2, 3)), jnp.ones((2, 3, 2))
      >>> calls = []
      >>> def half(xs):
      ...     calls.extend(x.shape for x in xs)
      ...     return [x / 2 for x in xs]
      >>> halves = map_stacked(half, [wide, tall])
      >>> calls, [half.shape for half in halves]
      ([(3, 2, 3)], [(1, 2, 3), (2, 3, 2)])
    """
    key = key or (lambda sides, dtype: (sides, dtype))
    most = int(max_bytes or (2**24 if jax.default_backend() == "cpu" else 2**28))
    buckets = defaultdict(list)
    for index, x in enumerate(stacks):
        if x.size:
            buckets[key(tuple(sorted(x.shape[1:])), x.dtype)].append(index)
    results = list(stacks)
    for indices in buckets.values():
        found = _joined(function, [_wide(stacks[i]) for i in indices], most)
        for i, y in zip(indices, found):
            results[i] = y if y.shape == stacks[i].shape else y.mT
    return results


def call_once(function: Callable[[Array], Array], stacks: Sequence[Array]) -> list[Array]:
    """`[function(x) for x in stacks]` of stacks of equal matrices, by one call."""
    if len(stacks) == 1:  # whose batch may be symbolic, for jax.export
        return [function(stacks[0])]
    return _split(function(jnp.concatenate(stacks)), [len(x) for x in stacks])


def _wide(x: Array) -> Array:
    return x.mT if x.shape[1] > x.shape[2] else x


def _joined(
    function: Callable[[list[Array]], list[Array]], stacks: Sequence[Array], most: int
) -> list[Array]:
    """`function(stacks)`, equal matrices joined to one stack, and large stacks in slices."""
    groups = defaultdict(list)
    for index, x in enumerate(stacks):
        groups[x.shape[1:]].append(index)
    joined = [_join([stacks[i] for i in indices]) for indices in groups.values()]
    together = sum(x.nbytes for x in joined) <= most
    found = function(joined) if together else [_in_slices(function, x, most) for x in joined]
    results = list(stacks)
    for indices, ys in zip(groups.values(), found):
        for i, y in zip(indices, _split(ys, [len(stacks[i]) for i in indices])):
            results[i] = y
    return results


def _join(stacks: Sequence[Array]) -> Array:
    """`jnp.concatenate`; large ones are written one by one, so that none is kept beside."""
    # A kernel for each: for many small ones that would double the time to compile.
    if len(stacks) == 1 or stacks[0].nbytes < _LARGE_BYTES:
        return jnp.concatenate(stacks)
    starts = np.cumsum([0, *map(len, stacks)])
    whole = jnp.zeros((starts[-1], *stacks[0].shape[1:]), stacks[0].dtype)
    for start, x in zip(starts, stacks):
        whole = lax.dynamic_update_slice_in_dim(whole, x, start, 0)
    return whole


@functools.partial(jax.jit, static_argnums=(0, 2))  # or an eager step compiles the loop anew
def _in_slices(
    function: Callable[[list[Array]], list[Array]], stack: Array, most: int
) -> Array:
    """`function([stack])[0]`, slice by slice in place: no second array of that size."""
    fit = min(len(stack), max(1, most * len(stack) // stack.nbytes))
    if fit == len(stack):
        return function([stack])[0]
    even = max(size for size in range(1, fit + 1) if len(stack) % size == 0)
    size = even if 2 * even > fit else fit  # a rest is compiled a second time

    def step(i: Array | int, stack: Array, size: int = size, start: int = 0) -> Array:
        x = lax.dynamic_slice_in_dim(stack, start + i * size, size)
        y = function([x])[0].astype(stack.dtype)
        return lax.dynamic_update_slice_in_dim(stack, y, start + i * size, 0)

    whole, rest = divmod(len(stack), size)
    stack = lax.fori_loop(0, whole, step, stack)
    return step(0, stack, rest, whole * size) if rest else stack


def _split(stack: Array, lengths: Sequence[int]) -> list[Array]:
    return jnp.split(stack, np.cumsum(lengths)[:-1]) if len(lengths) > 1 else [stack]
