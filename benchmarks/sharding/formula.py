"""What a sharded polar step moves and computes, by formula from the library's assignment."""

import dataclasses
from collections.abc import Iterator
from dataclasses import dataclass

import jax
import numpy as np

from benchmarks.hlo import RECEIVED
from benchmarks.sharding.layouts import Layout
from muon_optax import NewtonSchulz
from muon_optax.batching._blocks import BlockLayout, Names, layout_of, num_devices, place
from muon_optax.batching._ownership import Group, Ownership, assign_owners, owner_devices
from muon_optax.dims import matrix_views


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
    """The polar step of a tree that lies so, on CPUs."""
    groups, mesh = _groups(layout, method), layout.mesh
    load, branches, moves = np.zeros(num_devices(mesh, mesh)), 0.0, []
    for group, ownership in zip(groups, assign_owners(groups, mesh)):
        moves += _moves(group, ownership, mesh, method)
        counts = ownership.num_per_owner + (np.array(ownership.remainder) >= 0)
        if ownership.team:  # which computes its fillers, too
            counts = np.full_like(counts, ownership.padded_count)
        flops = group.plan.flops_per_device(num_devices(mesh, ownership.team))
        devices = owner_devices(ownership.replicas + ownership.shards, mesh)
        load[devices] += flops * counts[:, None]
        branches += flops * ownership.padded_count
    return Step(moves, float(load.max()), float(branches))


def _groups(layout: Layout, method: NewtonSchulz) -> list[Group]:
    """Equal matrices of all leaves, as every device finds them among its blocks."""
    leaves = jax.tree.leaves(layout.shapes)
    counts: dict[BlockLayout, int] = {}
    for leaf, view in zip(leaves, matrix_views(layout.dims, layout.shapes)):
        placement = place(view, leaf.shape, layout.sharding)
        for sides in placement.view.sides:
            key, _ = layout_of(placement, sides, leaf.dtype)
            counts[key] = counts.get(key, 0) + sides[0]
    return [
        Group(key, count, method.plan(*key.sides, key.dtype, "cpu"))
        for key, count in counts.items()
    ]


def _moves(
    group: Group, ownership: Ownership, mesh: dict, method: NewtonSchulz
) -> Iterator[Move]:
    """There: blocks to their owners; the sums of a team; back: to all who have a block."""

    def move(kind: str, bytes: float, axes: Names) -> Iterator[Move]:
        if num_devices(mesh, axes) > 1:
            yield Move(kind, bytes, axes, num_devices(mesh, axes))

    layout, replicas, shards = group.layout, ownership.replicas, ownership.shards
    m, n = layout.sides
    cut = num_devices(mesh, layout.short + layout.long)
    block = m * n / cut * np.dtype(group.plan.wire_dtype or layout.dtype).itemsize
    sent = num_devices(mesh, shards) * ownership.padded_count * block
    for _ in ("there", "back"):
        on_short = tuple(name for name in layout.short if name in ownership.team)
        yield from move("all-to-all", group.count * block, on_short)
        yield from move("all-to-all", sent, shards)
    table = np.array(ownership.remainder).reshape(num_devices(mesh, replicas), -1)
    extras = (table >= 0).sum(1)
    # No fillers go to other replicas.
    kept = num_devices(mesh, shards) * ownership.num_per_owner + extras.max()
    yield from move("all-gather", num_devices(mesh, replicas) * kept * block, replicas)
    gram_form = dataclasses.replace(method, form="gram")
    for _ in gram_form.plan(m, n, layout.dtype, "cpu").segments:
        yield from move("all-reduce", 4 * ownership.padded_count * m * m, ownership.team)
