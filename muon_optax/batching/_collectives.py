"""Knows how matrices travel: blocks to their owners, polar factors back to the blocks' places.

Functions here run on every device of a mesh, under `jax.shard_map`.
"""

import jax.numpy as jnp
import numpy as np
from jax import Array, lax

from muon_optax.batching._blocks import Names
from muon_optax.batching._ownership import Bucket, Share


def to_owners(blocks: Array, bucket: Bucket, share: Share) -> Array:
    """The matrices that this device owns, from the blocks that all devices have.

    Args:
      blocks: `[bucket.count, p, q]`, this device's block of every matrix.
      bucket: What they are of.
      share: Who owns which.

    Returns:
      `[share.length, m, n]`, with a team `[share.length, m, n/devices]`. By one all-to-all, or
      none where nobody has a part.
    """
    if on_short := _on_short(bucket, share):  # a team spreads the long side
        blocks = lax.all_to_all(blocks, on_short, 2, 1, tiled=True)
    blocks = _picked(blocks, share)
    shards, length, p, q = blocks.shape
    if shards > 1:
        blocks = lax.all_to_all(blocks, share.shards, 0, 0)
    rows = _count(name for name in bucket.short if name in share.shards)
    grid = blocks.reshape(rows, shards // rows, length, p, q)
    return grid.transpose(2, 0, 3, 1, 4).reshape(length, rows * p, shards // rows * q)


def to_shards(matrices: Array, bucket: Bucket, share: Share) -> Array:
    """The inverse of `to_owners`: this device's block of every matrix, from all owners.

    Args:
      matrices: What this device owns, as `to_owners` gave it.
      bucket: What they are of.
      share: Who owns which.

    Returns:
      `[bucket.count, p, q]`. By one all-to-all where matrices are cut, and one all-gather where
      devices have the same blocks.
    """
    length, height, width = matrices.shape
    rows = _count(name for name in bucket.short if name in share.shards)
    shards = _count(share.shards)
    grid = matrices.reshape(length, rows, height // rows, shards // rows, -1)
    blocks = grid.transpose(1, 3, 0, 2, 4)
    blocks = blocks.reshape(shards, length, height // rows, width * rows // shards)
    if shards > 1:
        blocks = lax.all_to_all(blocks, share.shards, 0, 0)
    blocks = _gathered(blocks, share)
    if on_short := _on_short(bucket, share):
        blocks = lax.all_to_all(blocks, on_short, 1, 2, tiled=True)
    return blocks


def owner_index(share: Share) -> Array:
    """Which owner this device is."""
    names = share.replicas + share.shards
    return lax.axis_index(names) if names else jnp.zeros([], jnp.int32)


def _picked(blocks: Array, share: Share) -> Array:
    """`[shards, length, p, q]`: what to send to each, this device's replica's part of all."""
    shards = _count(share.shards)
    replicas = share.owners // shards
    replica = _replica(share)
    shared = share.owners * share.each
    shape = (replicas, shards, share.each, *blocks.shape[1:])
    parts = [_at(blocks[:shared].reshape(shape), replica)]
    if share.length > share.each:
        table = np.maximum(share.extra, 0).reshape(replicas, shards, 1)
        parts.append(blocks[shared:][_at(jnp.asarray(table), replica)])
    return jnp.concatenate(parts, 1)


def _gathered(blocks: Array, share: Share) -> Array:
    """`[count, p, q]` from `[shards, length, p, q]`, what one replica's owners sent."""
    shards, _, p, q = blocks.shape
    has_one = np.array(share.extra).reshape(-1, shards) >= 0
    numbers = has_one.sum(1)
    # To other replicas go no fillers, but where one has an extra matrix less.
    owners = (~has_one).argsort(1, kind="stable")[:, : numbers.max()]
    even = blocks[:, : share.each].reshape(shards * share.each, p, q)
    rest = blocks[_at(jnp.asarray(owners), _replica(share)), -1]
    sent = jnp.concatenate([even, rest])
    sent = lax.all_gather(sent, share.replicas) if share.replicas else sent[None]
    even, rest = sent[:, : len(even)], sent[:, len(even) :]
    number = np.flatnonzero(np.arange(owners.shape[1]) < numbers[:, None])
    flat = [part.reshape(part.shape[0] * part.shape[1], p, q) for part in (even, rest)]
    return jnp.concatenate([flat[0], flat[1][number]])


def _replica(share: Share) -> Array | int:
    return lax.axis_index(share.replicas) if share.replicas else 0


def _at(x: Array, index: Array | int) -> Array:
    return x[0] if len(x) == 1 else lax.dynamic_index_in_dim(x, index, keepdims=False)


def _on_short(bucket: Bucket, share: Share) -> Names:
    return tuple(name for name in bucket.short if name in share.team)


def _count(names) -> int:
    """How many devices there are along mesh axes."""
    names = tuple(names)
    return lax.axis_size(names) if names else 1
