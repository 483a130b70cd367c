"""Ownership: which devices orthogonalize which matrices, with about equal work for all.

With twelve equal matrices and eight devices, eight matrices get a device each, and four get a
team of two devices each. A matrix is divided only if that balances the work. Single matrices
that are left over go to the devices with the least work:

    owner               0    1    2    3    4    5    6    7
    8 matrices          0    1    2    3    4    5    6    7
    4, in teams of 2    8    8    9    9    10   10   11   11
    1 cheap one              12
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from muon_optax._platform import Platform
from muon_optax.batching._blocks import BlockLayout
from muon_optax.batching._grid import DeviceGrid, Names
from muon_optax.polar._method import MethodPlan

_LARGEST_LOAD = 1.08  # matrices are divided if the largest load over the mean load exceeds this
# The fewest operations per member for which a matrix is divided. Fewer take less time than any
# exchange.
_SMALLEST_PART: dict[Platform, float] = {"cpu": 2.0**25, "gpu": 2.0**31, "tpu": 2.0**31}
# How many operations take as long as one byte that a member receives. On a v5e, this is about
# 197 TFLOP/s divided by 90 GB/s; on an H100, it is 1750, plus launches. Transfers to owners are
# not counted, because they are hidden behind products.
_OPERATIONS_PER_BYTE: dict[Platform, float] = {"cpu": 0.0, "gpu": 2200.0, "tpu": 2200.0}


@dataclass(frozen=True)
class Group:
    """All matrices of one layout.

    Attributes:
      layout: The dimensions, dtype and cuts of the matrices.
      count: The number of matrices of which each device has a block.
      plan: The cost of one matrix.
    """

    layout: BlockLayout
    count: int
    plan: MethodPlan


@dataclass(frozen=True)
class Ownership:
    """The owners of consecutive matrices of a group.

    An owner is a device, or a team of devices that each have a part of the long side. Owners
    are numbered along `replicas`, then along `shards`. All names are factors of mesh axes.

    Attributes:
      count: The number of matrices.
      replicas: The factors along which different owners have equal blocks.
      shards: The factors along which an owner collects the blocks of its matrices.
      team: The factors along which a matrix is divided.
      per_owner: The number of matrices of each owner. The first matrix of owner i is number
        `i·per_owner`. If there are not enough matrices, the last owners get fillers.
      chosen: The owners that have a matrix, in the order of the matrices; None means all.
    """

    count: int
    replicas: Names
    shards: Names
    team: Names
    per_owner: int
    chosen: tuple[int, ...] | None = None


def assign_owners(
    groups: Sequence[Group], grid: DeviceGrid, platform: Platform
) -> list[list[Ownership]]:
    """Return the ownerships of each group, in the order of the group's matrices.

    While the busiest device has too much work, teams grow by one factor in the group whose
    leftover matrices cost the most per device. In a group that has teams already, they also
    grow while the last teams have fillers. The result is the assignment, out of all these, that
    takes the least time for work and exchanges.
    """
    depths = [0] * len(groups)  # the number of factors in the largest teams
    work = sum(g.plan.flops * g.count * grid.count(g.layout.batch) for g in groups)
    best, least = None, math.inf
    while True:
        found, load = _assign(groups, depths, grid)
        received = sum(_bytes_in_team(g, o, grid) for g, of in zip(groups, found) for o in of)
        cost = load + _OPERATIONS_PER_BYTE[platform] * received
        if cost <= least:
            best, least = found, cost
        is_balanced = load <= _LARGEST_LOAD * work / grid.num_devices
        costs = {
            i: _flops_per_device(group, found[i][-1], grid)
            for i, group in enumerate(groups)
            if _has_leftover(found[i][-1], grid)
            and _divides(group, depths[i], grid, platform)
            and (depths[i] or not is_balanced)
        }
        if not costs:
            return best or found
        depths[max(costs, key=costs.__getitem__)] += 1


def _assign(
    groups: Sequence[Group], depths: Sequence[int], grid: DeviceGrid
) -> tuple[list[list[Ownership]], float]:
    """Return the ownerships of each group, and the operations of the busiest device."""
    found = [_assign_evenly(group, depth, grid) for group, depth in zip(groups, depths)]
    even = sum(
        _flops_per_device(group, o, grid) for group, of in zip(groups, found) for o in of
    )
    load = np.zeros(grid.num_devices)  # from leftover matrices
    for i in sorted(range(len(groups)), key=lambda i: -groups[i].plan.flops):
        left = groups[i].count - sum(o.count for o in found[i])
        if left:
            replicas, shards, team = _axes(groups[i], 0, grid)
            devices = grid.numbers(replicas + shards)
            loads = load[devices].max(axis=1).reshape(grid.count(replicas), -1)
            chosen = tuple(sorted(_least_loaded(loads)[:left]))
            load[devices[list(chosen)]] += groups[i].plan.flops
            found[i].append(Ownership(left, replicas, shards, team, 1, chosen))
    return found, even + load.max()


def _assign_evenly(group: Group, depth: int, grid: DeviceGrid) -> list[Ownership]:
    """Assign matrices evenly to devices, then to teams; the largest teams take the rest."""
    found, left = [], group.count
    for factors in range(depth + 1):
        replicas, shards, team = _axes(group, factors, grid)
        owners = grid.count(replicas + shards)
        is_last = factors == depth > 0
        per_owner = math.ceil(left / owners) if is_last else left // owners
        if per_owner:
            count = min(left, per_owner * owners)
            found.append(Ownership(count, replicas, shards, team, per_owner))
            left -= count
    return found


def _axes(group: Group, depth: int, grid: DeviceGrid) -> tuple[Names, Names, Names]:
    """Return `replicas`, `shards` and `team` for teams of `depth` factors."""
    layout = group.layout
    cuts = layout.short + layout.long
    chosen = _candidates(group, grid)[:depth]
    team = tuple(name for name in grid.sizes if name in chosen)
    replicas = [n for n in grid.sizes if n not in (*layout.batch, *cuts, *team)]
    return tuple(replicas), tuple(n for n in cuts if n not in team), team


def _candidates(group: Group, grid: DeviceGrid) -> Names:
    """Return the factors in the order in which a team takes them.

    Factors that cut the long side come first, because along these each device already has a
    part of the long side. Of two such factors, and of two others, the later one in the grid
    comes first, because its devices are nearer to each other.
    """
    layout = group.layout
    others = [n for n in grid.sizes if n not in (*layout.batch, *layout.long)]
    return (*reversed(layout.long), *reversed(others))


def _divides(group: Group, depth: int, grid: DeviceGrid, platform: Platform) -> bool:
    """Return whether teams with one more factor are possible and worthwhile."""
    candidates = _candidates(group, grid)
    if math.isinf(group.plan.team_bytes) or depth == len(candidates):
        return False
    team = candidates[: depth + 1]
    pieces = grid.count({*team, *group.layout.long})
    part = group.plan.flops / grid.count(team)
    return group.layout.sides[1] % pieces == 0 and part >= _SMALLEST_PART[platform]


def _has_leftover(last: Ownership, grid: DeviceGrid) -> bool:
    """Return whether some owners lack a matrix and would have a filler."""
    return last.count < last.per_owner * grid.count(last.replicas + last.shards)


def _flops_per_device(group: Group, ownership: Ownership, grid: DeviceGrid) -> float:
    """Return the operations of each owning device, including those for fillers."""
    return group.plan.flops / grid.count(ownership.team) * ownership.per_owner


def _bytes_in_team(group: Group, ownership: Ownership, grid: DeviceGrid) -> float:
    """Return the bytes that a member of a team receives from the other members."""
    members = grid.count(ownership.team)
    if members == 1:
        return 0.0
    return group.plan.team_bytes * (1 - 1 / members) * ownership.per_owner


def _least_loaded(load: np.ndarray) -> list[int]:
    """Return the owners in the order in which they get leftover matrices.

    `load` is `[replica, shard]`. The least busy owner of each replica comes first, then the
    second least busy owner of each, so that all replicas get equally many matrices.
    """
    by_load = load.argsort(axis=1, kind="stable")
    num_replicas, num_shards = load.shape
    order = []
    for turn in range(num_shards):
        owners = [(replica, int(by_load[replica, turn])) for replica in range(num_replicas)]
        order += sorted(owners, key=lambda owner: load[owner])
    return [replica * num_shards + shard for replica, shard in order]
