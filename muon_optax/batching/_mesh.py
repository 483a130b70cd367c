"""Knows what one of many devices does of a polar step; runs under `jax.shard_map`."""

import itertools
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import replace

import jax.numpy as jnp
import numpy as np
from jax import Array, lax
from jax.typing import DTypeLike

from muon_optax.batching._blocks import Placement
from muon_optax.batching._collectives import owner_index, to_owners, to_shards
from muon_optax.batching._ownership import Bucket, Share, deal, size
from muon_optax.polar import PolarMethod, cost, polar_all, polar_in_teams, wire_dtype


def polar_on_each(
    method: PolarMethod,
    placements: Sequence[Placement],
    max_bytes: int | None,
    blocks: Sequence[Array],
) -> list[Array]:
    """This device's blocks of the polar factors, from its blocks of all leaves.

    Args:
      method: Any polar method.
      placements: Of each leaf.
      max_bytes: See `stacking.map_stacked`.
      blocks: This device's, of each leaf.

    Returns:
      The same shapes and dtypes.
    """
    pieces = [(p, x) for p, b in zip(placements, blocks) for x in p.view.to_matrices(b)]
    kinds, flips = zip(*(kind_of(p, x.shape, x.dtype) for p, x in pieces))
    members = defaultdict(list)
    for index, kind in enumerate(kinds):
        members[kind].append(index)
    stacks = [x.mT if flip else x for flip, (_, x) in zip(flips, pieces)]
    joined = [
        jnp.concatenate([stacks[i].astype(_wire(method, kind)) for i in of_kind])
        for kind, of_kind in members.items()
    ]
    buckets = [replace(kind, count=len(x)) for kind, x in zip(members, joined)]
    # Along an axis of one device nobody has anything to exchange.
    mesh = {name: n for name, n in placements[0].sharding.mesh.shape.items() if n > 1}
    for of_kind, ys in zip(members.values(), _polars(method, buckets, joined, mesh, max_bytes)):
        ends = np.cumsum([len(stacks[i]) for i in of_kind])[:-1]
        for i, y in zip(of_kind, jnp.split(ys, ends)):
            y = y.astype(stacks[i].dtype)
            stacks[i] = y.mT if flips[i] else y
    polars = iter(stacks)
    return [
        p.view.from_matrices(list(itertools.islice(polars, len(p.view.sides))), b.shape)
        for p, b in zip(placements, blocks)
    ]


def kind_of(
    placement: Placement, shape: Sequence[int], dtype: DTypeLike
) -> tuple[Bucket, bool]:
    """The bucket of a stack, without a count, and whether it is to be transposed there.

    Args:
      placement: Of its leaf.
      shape: `[batch, p, q]`, of one device's blocks.
      dtype: Their dtype.

    Returns:
      The bucket, and whether to.
    """
    mesh = placement.sharding.mesh.shape
    _, p, q = shape
    rows, columns = placement.rows, placement.columns
    m, n = p * size(mesh, rows), q * size(mesh, columns)
    flip = m > n
    sides, cuts = ((n, m), (columns, rows)) if flip else ((m, n), (rows, columns))
    return Bucket(sides, jnp.dtype(dtype).name, placement.batch, *cuts, count=0), flip


def _polars(
    method: PolarMethod,
    buckets: Sequence[Bucket],
    stacks: Sequence[Array],
    mesh: Mapping[str, int],
    max_bytes: int | None,
) -> list[Array]:
    """The blocks of polar factors from those of matrices, both as they travel, by buckets."""

    def costs(bucket: Bucket, devices: int) -> float:
        return cost(method, bucket.sides, bucket.dtype, devices)

    shares = deal(buckets, mesh, costs)
    owned = [to_owners(x, b, s).astype(b.dtype) for b, s, x in zip(buckets, shares, stacks)]
    found = _owned_polars(method, shares, owned, max_bytes)
    return [
        to_shards(y.astype(x.dtype), b, s) for b, s, x, y in zip(buckets, shares, stacks, found)
    ]


def _wire(method: PolarMethod, bucket: Bucket) -> np.dtype:
    return wire_dtype(method, bucket.sides, bucket.dtype)


def _owned_polars(
    method: PolarMethod, shares: Sequence[Share], owned: Sequence[Array], max_bytes: int | None
) -> list[Array]:
    """The polar factors of what this device owns."""

    def alone(xs: Sequence[Array]) -> list[Array]:
        found = polar_all(method, xs, max_bytes)
        return [y.astype(x.dtype) for x, y in zip(xs, found)]

    # All have these; matrices of several buckets may share a call.
    found = alone([x[: 0 if s.team else s.each] for x, s in zip(owned, shares)])
    for i, (share, x) in enumerate(zip(shares, owned)):
        if share.team:  # fillers too: a team's members have to sum at the same time
            found[i] = polar_in_teams(method, x, share.team)
        elif share.length > share.each:
            has_one = jnp.asarray(np.array(share.extra) >= 0)[owner_index(share)]
            extra = lax.cond(has_one, lambda x: alone([x])[0], jnp.zeros_like, x[share.each :])
            found[i] = jnp.concatenate([found[i], extra])
    return found
