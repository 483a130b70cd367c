"""How matrices travel: blocks to the owners, polar factors back to the blocks' places.

Four devices along "fsdp", eight matrices of which each device has a block of rows:

    blocks_to_owners   [8, m/4, n] → all-to-all → [2, m, n]: two whole matrices
    owners_to_blocks   [2, m, n] → all-to-all → [8, m/4, n]

These functions run on every device of a mesh, under `jax.shard_map`.
"""

import jax.numpy as jnp
import numpy as np
from jax import Array, lax

from muon_optax.batching._blocks import BlockLayout, Names
from muon_optax.batching._ownership import Ownership


def blocks_to_owners(blocks: Array, layout: BlockLayout, ownership: Ownership) -> Array:
    """The matrices of this owner, `[padded_count, m, n]`, from all devices' `[count, p, q]`.

    A member of a team gets `[padded_count, m, n/members]`. One all-to-all, or none where
    matrices are not cut; one more where a team's matrices are cut along the short side.
    """
    if names := _short_axes_of_team(layout, ownership):  # a team divides the long side
        blocks = lax.all_to_all(blocks, names, 2, 1, tiled=True)
    blocks = _select_for_owners(blocks, ownership)
    num_shards, length, p, q = blocks.shape
    if num_shards > 1:
        blocks = lax.all_to_all(blocks, ownership.shards, 0, 0)
    rows, columns = _grid(layout, ownership)
    grid = blocks.reshape(rows, columns, length, p, q)
    return grid.transpose(2, 0, 3, 1, 4).reshape(length, rows * p, columns * q)


def owners_to_blocks(matrices: Array, layout: BlockLayout, ownership: Ownership) -> Array:
    """The inverse of `blocks_to_owners`: `[count, p, q]` from the matrices of all owners.

    One all-to-all where matrices are cut, and one all-gather where devices have equal blocks.
    """
    length, height, width = matrices.shape
    rows, columns = _grid(layout, ownership)
    p, q = height // rows, width // columns
    grid = matrices.reshape(length, rows, p, columns, q)
    blocks = grid.transpose(1, 3, 0, 2, 4).reshape(rows * columns, length, p, q)
    if rows * columns > 1:
        blocks = lax.all_to_all(blocks, ownership.shards, 0, 0)
    blocks = _gather_from_owners(blocks, ownership)
    if names := _short_axes_of_team(layout, ownership):
        blocks = lax.all_to_all(blocks, names, 1, 2, tiled=True)
    return blocks


def owner_index(ownership: Ownership) -> Array:
    """The number of the owner that this device is, or is a member of."""
    names = ownership.replicas + ownership.shards
    return lax.axis_index(names) if names else jnp.zeros([], jnp.int32)


def _select_for_owners(blocks: Array, ownership: Ownership) -> Array:
    """`[shard, padded_count, p, q]`: the blocks to send, of the matrices of this replica."""
    num_shards, length = _axis_size(ownership.shards), ownership.num_per_owner
    num_replicas = ownership.num_owners // num_shards
    num_even = ownership.num_owners * length
    even = blocks[:num_even].reshape(num_replicas, num_shards, length, *blocks.shape[1:])
    even = _of_this_replica(even, ownership)
    if not ownership.has_remainder:
        return even
    table = np.array(ownership.remainder).reshape(num_replicas, num_shards)
    index = _of_this_replica(jnp.asarray(np.maximum(table, 0)), ownership)  # -1 is a filler
    remainder = blocks[num_even:][index]
    return jnp.concatenate([even, remainder[:, None]], axis=1)


def _gather_from_owners(blocks: Array, ownership: Ownership) -> Array:
    """`[count, p, q]`: this device's blocks of all matrices, from all replicas.

    `blocks` is `[shard, padded_count, p, q]`, what the owners of this replica have computed.
    """
    num_shards, _, p, q = blocks.shape
    length = ownership.num_per_owner
    even = blocks[:, :length].reshape(num_shards * length, p, q)
    if not ownership.has_remainder:
        return _all_gather(even, ownership).reshape(-1, p, q)
    table = np.array(ownership.remainder).reshape(-1, num_shards)
    shards = [np.flatnonzero(row >= 0) for row in table]  # with a remainder, by replica
    most = max(len(found) for found in shards)
    # Fillers do not travel, except that a replica with one matrix less repeats its first.
    index = np.array([np.pad(found, (0, most - len(found))) for found in shards])
    remainder = blocks[_of_this_replica(jnp.asarray(index), ownership), length]
    sent = _all_gather(jnp.concatenate([even, remainder]), ownership)
    even, remainder = jnp.split(sent, [len(even)], axis=1)
    is_real = np.arange(most) < np.array([len(found) for found in shards])[:, None]
    return jnp.concatenate(
        [even.reshape(-1, p, q), remainder.reshape(-1, p, q)[np.flatnonzero(is_real)]]
    )


def _all_gather(x: Array, ownership: Ownership) -> Array:
    """`[replica, ...]`: the arrays of all replicas."""
    return lax.all_gather(x, ownership.replicas) if ownership.replicas else x[None]


def _of_this_replica(x: Array, ownership: Ownership) -> Array:
    """The row of `x: [replica, ...]` that is this device's."""
    if len(x) == 1:
        return x[0]
    index = lax.axis_index(ownership.replicas)
    return lax.dynamic_index_in_dim(x, index, keepdims=False)


def _grid(layout: BlockLayout, ownership: Ownership) -> tuple[int, int]:
    """By how many rows and columns of blocks an owner's matrix is put together."""
    rows = _axis_size(tuple(name for name in layout.short if name in ownership.shards))
    return rows, _axis_size(ownership.shards) // rows


def _short_axes_of_team(layout: BlockLayout, ownership: Ownership) -> Names:
    return tuple(name for name in layout.short if name in ownership.team)


def _axis_size(names: Names) -> int:
    """The number of devices along mesh axes."""
    return lax.axis_size(names) if names else 1
