"""What a sharded polar step moves and computes, by formula from the library's assignment."""

import math
from collections.abc import Iterator
from dataclasses import dataclass

import jax
import numpy as np

from benchmarks.hlo import RECEIVED
from benchmarks.sharding.layouts import Layout
from muon_optax import NewtonSchulz
from muon_optax.batching._blocks import BlockLayout, layout_of, place
from muon_optax.batching._collectives import Exchange
from muon_optax.batching._grid import Names, Peers, grid_of
from muon_optax.batching._ownership import Group, assign_owners
from muon_optax.batching._stages import make_stages
from muon_optax.dims import matrix_views
from muon_optax.polar._segments import NewtonSchulzPlan


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
    grid, groups = grid_of(layout.mesh), _groups(layout, method)
    load, branches, moves = np.zeros(grid.num_devices), 0.0, []
    stages = make_stages(groups, assign_owners(groups, grid, "cpu"), grid, "cpu")
    for part in (part for stage in stages for part in stage):
        plan, exchange = groups[part.group].plan, part.exchange
        flops = plan.flops * exchange.ownership.per_owner / exchange.team.size
        owners = grid.numbers(exchange.owners.names)
        chosen = exchange.ownership.chosen
        load[owners if chosen is None else owners[list(chosen)]] += flops
        branches += flops
        moves += _moves(exchange, plan)
    return Step(moves, float(load.max()), branches)


def _groups(layout: Layout, method: NewtonSchulz) -> list[Group]:
    """Equal matrices of all leaves, as every device finds them among its blocks."""
    leaves, grid = jax.tree.leaves(layout.shapes), grid_of(layout.mesh)
    counts: dict[BlockLayout, int] = {}
    for leaf, view in zip(leaves, matrix_views(layout.dims, layout.shapes)):
        placement = place(view, leaf.shape, layout.sharding)
        for sides in placement.view.sides:
            key, _ = layout_of(placement, grid, sides, leaf.dtype)
            counts[key] = counts.get(key, 0) + sides[0]
    return [
        Group(key, count, method.plan(*key.sides, key.dtype, "cpu"))
        for key, count in counts.items()
    ]


def _moves(exchange: Exchange, plan: NewtonSchulzPlan) -> Iterator[Move]:
    """There; what a team exchanges meanwhile; back, to all who have a block."""

    def move(kind: str, bytes: float, peers: Peers) -> Iterator[Move]:
        axes = tuple(dict.fromkeys(name.rpartition("/")[0] for name in peers.names))
        if peers.size > 1:
            yield Move(kind, bytes, axes, peers.size)

    layout, ownership, team = exchange.layout, exchange.ownership, exchange.team
    part = math.prod(layout.sides) / team.size
    part *= np.dtype(plan.wire_dtype or layout.dtype).itemsize
    for _ in ("there", "back"):
        yield from move("all-to-all", ownership.per_owner * part, exchange.sources)
    # To equal blocks no fillers go, but as many as the replica with the most matrices has.
    kept = len(exchange.is_owner) * exchange.is_owner.sum(1).max()
    cut = exchange.grid.count(layout.short + layout.long)
    block = part * team.size / cut
    yield from move("all-gather", kept * ownership.per_owner * block, exchange.equal)
    m, size = layout.sides[0], np.dtype(plan.dtype).itemsize
    rows = math.ceil(m / team.size) * team.size
    for stages in plan.segments:
        yield from move("reduce-scatter", ownership.per_owner * rows * m * 4 / team.size, team)
        for _ in range(1 + (2 * stages if stages > 1 else 1)):
            yield from move("all-gather", ownership.per_owner * rows * m * size, team)
