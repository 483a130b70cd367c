"""Which device orthogonalizes which matrix, so that all devices have about the same work.

Ten equal matrices and four owners, the first and third of which have the most other work:

    owner                    0      1      2      3
    num_per_owner = 2       0 1    2 3    4 5    6 7
    remainder                       8             9
    padded_count = 3        0 1 -  2 3 8  4 5 -  6 7 9

A matrix that costs more than a device's part of all the work may be divided among a team.
"""

import itertools
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from muon_optax.batching._blocks import BlockLayout, Names, num_devices
from muon_optax.polar._method import MethodPlan


@dataclass(frozen=True)
class Group:
    """Matrices of one layout, of all leaves.

    Attributes:
      layout: Their sides, dtype and cuts.
      count: The number of matrices of which each device has a block.
      plan: What one of them costs.
    """

    layout: BlockLayout
    count: int
    plan: MethodPlan


@dataclass(frozen=True)
class Ownership:
    """Which owner has which matrices of a group.

    An owner is a device, or a team of devices with a part of the long side each. Owners are
    numbered along the mesh axes `replicas`, then along `shards`.

    Attributes:
      replicas: Mesh axes along which devices have equal blocks.
      shards: Mesh axes along which an owner collects the blocks of its matrices.
      team: Mesh axes along which a matrix stays divided.
      num_per_owner: The number of matrices that every owner has; owner i has those from
        `i * num_per_owner` on.
      remainder: For each owner, which of the matrices left over it has, in the order of owners,
        or -1 for none. The owners of two replicas differ by one such matrix at most.
    """

    replicas: Names
    shards: Names
    team: Names
    num_per_owner: int
    remainder: tuple[int, ...]

    @property
    def num_owners(self) -> int:
        """The number of owners."""
        return len(self.remainder)

    @property
    def has_remainder(self) -> bool:
        """Whether some owners have a matrix more than others."""
        return max(self.remainder) >= 0

    @property
    def padded_count(self) -> int:
        """The length of each owner's stack; an owner without a remainder has a filler there."""
        return self.num_per_owner + self.has_remainder


def assign_owners(groups: Sequence[Group], mesh: Mapping[str, int]) -> list[Ownership]:
    """An ownership for each group, on a mesh of these sizes.

    Every owner gets equally many matrices of a group. Those left over, fewer than owners, go
    one each to the owners with the least work so far; the most expensive groups come first.
    """
    teams = _choose_teams(groups, mesh)
    work = [g.plan.flops_per_device(num_devices(mesh, t)) for g, t in zip(groups, teams)]
    load = np.zeros(num_devices(mesh, mesh))  # of each device, from remainders alone
    ownerships = {}
    for index in sorted(range(len(groups)), key=lambda i: -work[i]):
        group, team = groups[index], teams[index]
        replicas, shards = _owner_axes(group, team, mesh)
        devices = owner_devices(replicas + shards, mesh)
        num_per_owner, num_left = divmod(group.count, len(devices))
        owner_load = load[devices].max(axis=1).reshape(num_devices(mesh, replicas), -1)
        chosen = _least_loaded(owner_load)[:num_left]
        load[devices[chosen]] += work[index]
        remainder = np.full(len(devices), -1)
        remainder[sorted(chosen)] = np.arange(num_left)
        ownerships[index] = Ownership(
            replicas, shards, team, num_per_owner, tuple(remainder.tolist())
        )
    return [ownerships[index] for index in range(len(groups))]


def owner_devices(names: Names, mesh: Mapping[str, int]) -> np.ndarray:
    """`[owner, member]`: the numbers of the devices of each owner, counted along `names`."""
    axes = list(mesh)
    order = [axes.index(name) for name in [*names, *(a for a in axes if a not in names)]]
    numbers = np.arange(num_devices(mesh, mesh)).reshape([*mesh.values()])
    return numbers.transpose(order).reshape(num_devices(mesh, names), -1)


def _choose_teams(groups: Sequence[Group], mesh: Mapping[str, int]) -> list[Names]:
    """The mesh axes along which the matrices of each group stay divided, mostly none."""
    total = sum(g.plan.flops * g.count * num_devices(mesh, g.layout.batch) for g in groups)
    fair = total / num_devices(mesh, mesh)
    return [_fastest_team(g, mesh) if g.plan.flops > fair else () for g in groups]


def _fastest_team(group: Group, mesh: Mapping[str, int]) -> Names:
    """The team with which a group is done soonest, the smallest of equals."""
    layout = group.layout
    cuts = layout.short + layout.long
    owners_and_members = num_devices(mesh, [a for a in mesh if a not in layout.batch])

    def time(team: Names) -> float:
        # Blocks cut along the short side have to be cut along the long side instead.
        if layout.sides[1] % num_devices(mesh, {*team, *layout.long}):
            return math.inf
        members = num_devices(mesh, team)
        matrices = math.ceil(group.count / (owners_and_members // members))
        return matrices * group.plan.flops_per_device(members)

    sizes = range(len(cuts) + 1)
    return min((t for k in sizes for t in itertools.combinations(cuts, k)), key=time)


def _owner_axes(group: Group, team: Names, mesh: Mapping[str, int]) -> tuple[Names, Names]:
    """The mesh axes along which owners are numbered: `replicas` and `shards`."""
    layout = group.layout
    cuts = layout.short + layout.long
    shards = tuple(name for name in cuts if name not in team)
    replicas = tuple(name for name in mesh if name not in layout.batch + cuts)
    if team and group.count <= num_devices(mesh, shards):
        replicas = ()  # every replica computes them all: as fast, and nothing to gather
    return replicas, shards


def _least_loaded(load: np.ndarray) -> list[int]:
    """The owners in the order in which they get a matrix of the remainder.

    `load` is `[replica, shard]`. First comes the owner with the least work of each replica,
    then the second of each, so that replicas have equally many.
    """
    by_load = load.argsort(axis=1, kind="stable")
    num_replicas, num_shards = load.shape
    order = []
    for turn in range(num_shards):
        owners = [(replica, int(by_load[replica, turn])) for replica in range(num_replicas)]
        order += sorted(owners, key=lambda owner: load[owner])
    return [replica * num_shards + shard for replica, shard in order]
