"""Buckets: stacks of matrices that go through one call of a polar method.

stacks [2, 4, 6], [1, 6, 4], [3, 4, 6]
tall ones transposed, equal matrices joined: [6, 4, 6]
polar_stacks([joined]), in slices if it exceeds max_bytes
split and transposed back: [2, 4, 6], [1, 6, 4], [3, 4, 6]
"""

from collections.abc import Callable, Hashable, Sequence
from functools import partial

import jax.numpy as jnp
import numpy as np
from jax import Array, lax

from muon_optax._platform import Platform
from muon_optax.polar._method import BatchedMethod, check_polars

_MAX_BYTES: dict[Platform, int] = {"cpu": 2**24, "accelerator": 2**28}
_LARGE_BYTES = 2**21


def group_indices(keys: Sequence[Hashable]) -> list[list[int]]:
    """The positions of equal keys, in the order of first appearance."""
    positions: dict[Hashable, list[int]] = {}
    for index, key in enumerate(keys):
        positions.setdefault(key, []).append(index)
    return list(positions.values())


def map_by_bucket(
    polar: Callable[[list[Array]], list[Array]],
    bucket_key: Callable[[int, int, np.dtype], Hashable],
    stacks: Sequence[Array],
) -> list[Array]:
    """The polar factors of all stacks, by one call of `polar` for each bucket.

    `bucket_key` takes `(m, n, dtype)`, m ≤ n. Empty stacks are returned as they are.
    """
    results = list(stacks)
    nonempty = [index for index, x in enumerate(stacks) if x.size]
    keys = []
    for index in nonempty:
        m, n = sorted(stacks[index].shape[1:])
        keys.append(bucket_key(m, n, stacks[index].dtype))
    for positions in group_indices(keys):
        indices = [nonempty[position] for position in positions]
        for index, y in zip(indices, polar([stacks[i] for i in indices])):
            results[index] = y
    return results


def local_polar(
    method: BatchedMethod, max_bytes: int | None, platform: Platform, stacks: Sequence[Array]
) -> list[Array]:
    """The polar factors of all stacks that a device of this platform has."""

    def bucket_key(m: int, n: int, dtype: np.dtype) -> Hashable:
        return method.plan(m, n, dtype, platform).bucket

    polar = partial(polar_bucket, method, max_bytes, platform)
    return map_by_bucket(polar, bucket_key, stacks)


def polar_bucket(
    method: BatchedMethod, max_bytes: int | None, platform: Platform, stacks: Sequence[Array]
) -> list[Array]:
    """The polar factors of the stacks `[batch, m, n]` of one bucket, wide or tall.

    `max_bytes` is the upper limit on the bytes passed to the method in one call, except that a
    call gets one matrix at least. None means 16 MiB on a CPU and 256 MiB on an accelerator.
    """
    limit = int(max_bytes or _MAX_BYTES[platform])
    wide = [x.mT if x.shape[1] > x.shape[2] else x for x in stacks]
    groups = group_indices([x.shape[1:] for x in wide])
    joined = [_join([wide[i] for i in indices]) for indices in groups]
    if sum(x.nbytes for x in joined) <= limit:
        polars = _call(method, platform, joined)
    else:
        polars = [_polar_in_slices(method, limit, platform, x) for x in joined]
    results = list(stacks)
    for indices, ys in zip(groups, polars):
        for i, y in zip(indices, split(ys, [len(wide[i]) for i in indices])):
            y = y.astype(stacks[i].dtype)
            results[i] = y if y.shape == stacks[i].shape else y.mT
    return results


def _call(method: BatchedMethod, platform: Platform, stacks: list[Array]) -> list[Array]:
    polars = method.polar_stacks(stacks, platform)
    check_polars(method, stacks, polars)
    return polars


def split(stack: Array, split_sizes: Sequence[int]) -> list[Array]:
    """Parts of a stack along its batch axis."""
    if len(split_sizes) == 1:
        return [stack]
    return jnp.split(stack, np.cumsum(split_sizes)[:-1])


def _join(stacks: Sequence[Array]) -> Array:
    """`jnp.concatenate`; large stacks are written one by one, so that none is live twice."""
    # Each write is a kernel: for many small stacks compilation would take twice as long.
    if len(stacks) == 1 or stacks[0].nbytes < _LARGE_BYTES:
        return jnp.concatenate(stacks)
    starts = np.cumsum([0, *map(len, stacks)])
    joined = jnp.zeros((starts[-1], *stacks[0].shape[1:]), stacks[0].dtype)
    for start, x in zip(starts, stacks):
        joined = lax.dynamic_update_slice_in_dim(joined, x, start, 0)
    return joined


def _polar_in_slices(
    method: BatchedMethod, limit: int, platform: Platform, stack: Array
) -> Array:
    """The polar factors, slice by slice in place: no second array of the stack's size."""
    count = len(stack)
    size = _slice_length(count, max(1, limit * count // stack.nbytes))
    if size == count:
        return _call(method, platform, [stack])[0]

    def replace(stack: Array, start: Array | int, length: int) -> Array:
        x = lax.dynamic_slice_in_dim(stack, start, length)
        y = _call(method, platform, [x])[0].astype(stack.dtype)
        return lax.dynamic_update_slice_in_dim(stack, y, start, 0)

    num_slices, rest = divmod(count, size)
    stack = lax.fori_loop(0, num_slices, lambda i, x: replace(x, i * size, size), stack)
    return replace(stack, num_slices * size, rest) if rest else stack


def _slice_length(count: int, longest: int) -> int:
    """A divisor of `count` if one is above half of `longest`, because a rest compiles again."""
    longest = min(count, longest)
    divisor = max(size for size in range(1, longest + 1) if count % size == 0)
    return divisor if 2 * divisor > longest else longest
