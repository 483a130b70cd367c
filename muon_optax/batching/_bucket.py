"""A polar method applied to all matrices of one device, in three steps.

1. The tree gives stacks of matrices, wide or tall.
2. Consecutive stacks form groups. A group is prepared in one pass over memory.
3. The stacks of a group form buckets. A bucket is one call of polar_stacks, with shared
   products.
"""

from collections.abc import Sequence
from typing import Any

from jax import Array, lax

from muon_optax._platform import Platform
from muon_optax.polar._joining import group_indices
from muon_optax.polar._method import BatchedMethod, check_polars

# The most entries in a group. In small groups, a TPU cannot read the next gradients while it
# multiplies, and a GPU can share few products. In large groups, operands need much memory.
_GROUP_SIZE: dict[Platform, int] = {"cpu": 2**23, "gpu": 2**25, "tpu": 2**23}


def polar_on_device(
    method: BatchedMethod,
    platform: Platform,
    stacks: Sequence[Array],
    momenta: Sequence[Array | None],
) -> tuple[list[Array], list[Array | None]]:
    """Return the polar factors of stacks `[..., m, n]`, wide or tall. Also return the momenta.

    There is one momentum, or None, for each stack. The pass over memory that reads a group's
    gradients also writes the group's momenta and the method's input.
    """
    polars, written = list(stacks), list(momenta)
    for group in _group_neighbors(stacks, _GROUP_SIZE[platform]):
        prepared = {i: method.prepare(stacks[i], platform) for i in group}
        beside = {i: momenta[i] for i in group}
        # Without a barrier, every product would compute its operand from the gradient again.
        prepared, beside = lax.optimization_barrier((prepared, beside))
        keys = [_bucket_key(method, platform, i, stacks[i]) for i in group]
        for positions in group_indices(keys):
            bucket = [group[position] for position in positions]
            ys = method.polar_stacks([prepared[i] for i in bucket], platform)
            check_polars(method, [stacks[i] for i in bucket], ys)
            for i, y in zip(bucket, ys):
                polars[i], written[i] = y.astype(stacks[i].dtype), beside[i]
    return polars, written


def _group_neighbors(stacks: Sequence[Array], most: int) -> list[list[int]]:
    """Group the positions of nonempty stacks, with at most `most` entries in a group."""
    groups, used = [], most
    for index, x in enumerate(stacks):
        if x.size and used + x.size > most:
            groups.append([])
            used = 0
        if x.size:
            groups[-1].append(index)
            used += x.size
    return groups


def _bucket_key(method: BatchedMethod, platform: Platform, index: int, x: Array) -> Any:
    """Return a key that is equal for stacks that share a call."""
    m, n = sorted(x.shape[-2:])
    bucket = method.plan(m, n, x.dtype, platform).bucket
    return ("alone", index) if bucket is None else bucket
