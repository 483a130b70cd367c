"""What a sharded polar step moves and computes, by formula from the library's assignment."""

import dataclasses
from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial

import jax
import numpy as np

from benchmarks.hlo import RECEIVED
from benchmarks.sharding.layouts import Layout
from muon_optax import NewtonSchulz
from muon_optax.batching._blocks import Names, place
from muon_optax.batching._mesh import kind_of
from muon_optax.batching._ownership import Bucket, Share, deal, devices_of, size
from muon_optax.dims import matrix_views
from muon_optax.polar import cost, wire_dtype


@dataclass(frozen=True)
class Move:
    """A collective.

    Attributes:
      kind: A key of `hlo.RECEIVED`.
      bytes: Of its result, on each device.
      axes: Of the mesh, along which devices exchange.
      group: How many these are.
    """

    kind: str
    bytes: float
    axes: Names
    group: int

    @property
    def received(self) -> float:
        """Bytes, by each device."""
        return self.bytes * RECEIVED[self.kind](self.group)


@dataclass(frozen=True)
class Step:
    """What a step takes.

    Attributes:
      moves: Its collectives.
      flops: Of the device with the most to do.
      branches: Of a device that had every matrix that some have and some have not.
    """

    moves: list[Move]
    flops: float
    branches: float


def ours(layout: Layout, method: NewtonSchulz) -> Step:
    """The polar step of a tree that lies so."""

    def costs(bucket: Bucket, devices: int) -> float:
        return cost(method, bucket.sides, bucket.dtype, devices)

    buckets, mesh = _buckets(layout), layout.mesh
    load, branches, moves = np.zeros(size(mesh, mesh)), 0.0, []
    for bucket, share in zip(buckets, deal(buckets, mesh, costs)):
        moves += _moves(bucket, share, mesh, method)
        has = share.each + (np.array(share.extra) >= 0)
        has = np.full_like(has, share.length) if share.team else has  # its fillers are iterated
        each = costs(bucket, size(mesh, share.team))
        load[devices_of(share.replicas + share.shards, mesh)] += each * has[:, None]
        branches += each * share.length
    return Step(moves, float(load.max()), float(branches))


def _buckets(layout: Layout) -> list[Bucket]:
    """Equal matrices of all leaves, as every device finds them among its blocks."""
    leaves, counts = jax.tree.leaves(layout.shapes), {}
    for leaf, view in zip(leaves, matrix_views(layout.dims, layout.shapes)):
        placement = place(view, leaf.shape, layout.sharding)
        for side in placement.view.sides:
            kind, _ = kind_of(placement, side, leaf.dtype)
            counts[kind] = counts.get(kind, 0) + side[0]
    return [dataclasses.replace(kind, count=count) for kind, count in counts.items()]


def _moves(bucket: Bucket, share: Share, mesh: dict, method: NewtonSchulz) -> Iterator[Move]:
    """There: blocks to their owners; the sums of a team; back: to all who have a block."""

    def move(kind: str, bytes: float, axes: Names) -> Iterator[Move]:
        if size(mesh, axes) > 1:
            yield Move(kind, bytes, axes, size(mesh, axes))

    (m, n), dtype = bucket.sides, bucket.dtype
    cut = size(mesh, bucket.short + bucket.long)
    block = m * n / cut * wire_dtype(method, bucket.sides, dtype).itemsize
    sent = size(mesh, share.shards) * share.length * block
    for _ in ("there", "back"):
        on_short = tuple(name for name in bucket.short if name in share.team)
        yield from move("all-to-all", bucket.count * block, on_short)
        yield from move("all-to-all", sent, share.shards)
    extras = (np.array(share.extra).reshape(size(mesh, share.replicas), -1) >= 0).sum(1)
    kept = size(mesh, share.shards) * share.each + extras.max()  # no fillers to other replicas
    yield from move("all-gather", size(mesh, share.replicas) * kept * block, share.replicas)
    sums = partial(dataclasses.replace(method, form="gram").plan, bucket.sides, dtype)
    for _ in sums().segments:
        yield from move("all-reduce", 4 * share.length * m * m, share.team)
