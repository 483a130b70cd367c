"""What a sharded polar step moves and computes, by formula from the library's assignment."""

import math
from collections.abc import Iterator
from dataclasses import dataclass

import jax
import numpy as np

from benchmarks.hlo import Collective
from benchmarks.sharding.layouts import Layout
from muon_optax import NewtonSchulz
from muon_optax._platform import Platform
from muon_optax.batching._blocks import BlockLayout, layout_of, place
from muon_optax.batching._collectives import Exchange
from muon_optax.batching._grid import Peers, grid_of
from muon_optax.batching._ownership import Group, assign_owners
from muon_optax.batching._stages import make_stages
from muon_optax.coefficients import Schedule
from muon_optax.dims import matrix_views
from muon_optax.polar._segments import NewtonSchulzPlan, count_gathers


@dataclass(frozen=True)
class Step:
    """What a step takes.

    Attributes:
      moves: Its collectives.
      flops: Of the device with the most to do.
      branches: Of a device that had every matrix that some have and some have not.
      fillers: The share of them in what travels to owners and back.
    """

    moves: list[Collective]
    flops: float
    branches: float
    fillers: float = 0.0

    @property
    def received(self) -> float:
        """Bytes, by each device."""
        return sum(move.received for move in self.moves)


def ours(layout: Layout, method: NewtonSchulz, platform: Platform = "cpu") -> Step:
    """The polar step of a tree in that layout."""
    grid, groups = grid_of(layout.mesh), _groups(layout, method, platform)
    stages = make_stages(groups, assign_owners(groups, grid, platform), grid, platform)
    load, branches, moves, travelling, fillers = np.zeros(grid.num_devices), 0.0, [], 0.0, 0.0
    for part in (part for stage in stages for part in stage):
        plan, exchange = groups[part.group].plan, part.exchange
        flops = plan.flops * exchange.ownership.per_owner / exchange.team.size
        owners = grid.numbers(exchange.owners.names)
        load[owners[exchange.is_owner.ravel()]] += flops
        branches += flops
        for move, share in _to_owners_and_back(exchange, plan):
            moves.append(move)
            travelling += move.received
            fillers += move.received * share
        moves += _inside_teams(exchange, plan, method.schedule)
    return Step(moves, float(load.max()), branches, fillers / travelling if travelling else 0.0)


def _groups(layout: Layout, method: NewtonSchulz, platform: Platform) -> list[Group]:
    """Equal matrices of all leaves, as every device finds them among its blocks."""
    leaves, grid = jax.tree.leaves(layout.shapes), grid_of(layout.mesh)
    counts: dict[BlockLayout, int] = {}
    for leaf, view in zip(leaves, matrix_views(layout.dims, layout.shapes)):
        placement = place(view, leaf.shape, layout.sharding)
        for sides in placement.view.sides:
            key, _ = layout_of(placement, grid, sides, leaf.dtype)
            counts[key] = counts.get(key, 0) + sides[0]
    return [
        Group(key, count, method.plan(*key.sides, key.dtype, platform))
        for key, count in counts.items()
    ]


def _to_owners_and_back(
    exchange: Exchange, plan: NewtonSchulzPlan
) -> Iterator[tuple[Collective, float]]:
    """There, and back to all who have a block; with the share of fillers."""
    layout, ownership = exchange.layout, exchange.ownership
    matrix = math.prod(layout.sides) * np.dtype(plan.wire_dtype or layout.dtype).itemsize
    sent = ownership.per_owner * exchange.owners.size
    for _ in ("there", "back"):
        part = ownership.per_owner * matrix / exchange.team.size
        for move in _among(exchange.sources, "all-to-all", part):
            yield move, 1 - ownership.count / sent
    # To equal blocks go as many matrices as the replica with the most has.
    replicas, most = len(exchange.is_owner), exchange.is_owner.sum(1).max()
    kept = ownership.per_owner * int(replicas * most)
    blocks = kept * matrix / exchange.grid.count(layout.short + layout.long)
    for move in _among(exchange.equal, "all-gather", blocks):
        yield move, 1 - ownership.count / kept


def _inside_teams(
    exchange: Exchange, plan: NewtonSchulzPlan, schedule: Schedule
) -> Iterator[Collective]:
    """The largest entry, the Gram matrix of each segment, and its stages' small products."""
    m, team, count = exchange.layout.sides[0], exchange.team, exchange.ownership.per_owner
    entries = count * math.ceil(m / team.size) * team.size * m
    yield from _among(team, "all-reduce", 4 * count)
    for gathers in count_gathers(schedule, plan.segments):
        yield from _among(team, "reduce-scatter", entries * 4 / team.size)
        for _ in range(1 + gathers):
            yield from _among(team, "all-gather", entries * np.dtype(plan.dtype).itemsize)


def _among(peers: Peers, kind: str, bytes: float) -> list[Collective]:
    """A collective, if there is anyone to exchange with."""
    first = tuple(peers.grid.groups(peers.names)[0])
    return [Collective(kind, bytes, first)] if peers.size > 1 else []
