"""The matrices that a device has, on their way through a polar method.

stacks of the whole tree, each wide or tall as it is
→ groups of neighbours: prepared in one pass over memory
→ buckets: polar_stacks, whose products they share
"""

from collections.abc import Sequence
from typing import Any

from jax import Array, lax

from muon_optax._platform import Platform
from muon_optax.polar._joining import group_indices
from muon_optax.polar._method import BatchedMethod, check_polars

# Numbers in the matrices of a group. With few, a TPU does not read the next gradients while it
# multiplies, and a GPU has little to share; with many, all operands are in memory together.
_GROUP_SIZE: dict[Platform, int] = {"cpu": 2**23, "gpu": 2**25, "tpu": 2**23}


def polar_on_device(
    method: BatchedMethod,
    platform: Platform,
    stacks: Sequence[Array],
    momenta: Sequence[Array | None],
) -> tuple[list[Array], list[Array | None]]:
    """The polar factors of stacks `[..., m, n]`, wide or tall, and the momenta.

    There is one momentum, or None, for each stack. The pass over memory that reads a group's
    gradients writes both its momenta and what the method needs of its stacks.
    """
    polars, written = list(stacks), list(momenta)
    for group in _group_neighbors(stacks, _GROUP_SIZE[platform]):
        prepared = {i: method.prepare(stacks[i], platform) for i in group}
        beside = {i: momenta[i] for i in group}
        # Without the barrier every product would compute its operand from the gradient again.
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
    """The positions of stacks that are not empty, in groups with up to so many numbers."""
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
    """Equal for stacks that go through one call."""
    m, n = sorted(x.shape[-2:])
    bucket = method.plan(m, n, x.dtype, platform).bucket
    return ("alone", index) if bucket is None else bucket
