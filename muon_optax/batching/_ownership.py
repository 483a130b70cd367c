"""Knows which device orthogonalizes which matrix, so that all have about the same to do."""

import itertools
import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from muon_optax.batching._blocks import Names


@dataclass(frozen=True)
class Bucket:
    """Matrices with equal sides that lie alike on a mesh.

    Attributes:
      sides: `(m, n)` of the whole matrices, m ≤ n.
      dtype: Its name.
      batch: The mesh axes along which devices have other matrices.
      short: Those that cut the short side.
      long: Those that cut the long side.
      count: Of how many each device has a block.
    """

    sides: tuple[int, int]
    dtype: str
    batch: Names
    short: Names
    long: Names
    count: int


@dataclass(frozen=True)
class Share:
    """Who has which matrices of a bucket.

    An owner is a device, or those along `team` together, with a part of the long side each.
    Owners are counted along `replicas`, then `shards`.

    Attributes:
      replicas: Mesh axes along which devices have the same blocks.
      shards: Mesh axes along which an owner collects blocks.
      team: Mesh axes along which a matrix stays spread.
      each: How many matrices every owner has.
      extra: Per owner which one of the rest it has besides, in order, or -1 for none; as many
        among one replica's owners as among another's, but for one.
    """

    replicas: Names
    shards: Names
    team: Names
    each: int
    extra: tuple[int, ...]

    @property
    def owners(self) -> int:
        """How many there are."""
        return len(self.extra)

    @property
    def length(self) -> int:
        """Of an owner's stack, where those without an extra matrix have a filler."""
        return self.each + (max(self.extra) >= 0)


def deal(
    buckets: Sequence[Bucket], mesh: Mapping[str, int], cost: Callable[[Bucket, int], float]
) -> list[Share]:
    """Share out all matrices: those of a bucket evenly, what is left to whoever has least.

    The rest of a bucket, fewer matrices than owners, goes to owners with the least to do yet;
    the most expensive buckets come first. A matrix that costs more than a device's share of
    everything stays spread over a team where that is faster.

    Args:
      buckets: All of them.
      mesh: Axis → size, in order.
      cost: Of one matrix of a bucket to each device of a team of that size; infinite where it
        cannot stay spread.

    Returns:
      A share for each bucket.
    """
    whole = [cost(b, 1) for b in buckets]
    matrices = [b.count * size(mesh, b.batch) for b in buckets]
    fair = sum(map(math.prod, zip(whole, matrices))) / size(mesh, mesh)
    teams = [_team(b, mesh, cost) if alone > fair else () for b, alone in zip(buckets, whole)]
    work = [cost(b, size(mesh, team)) for b, team in zip(buckets, teams)]
    load = np.zeros(size(mesh, mesh))
    shares = {
        i: _share(buckets[i], teams[i], mesh, work[i], load)
        for i in sorted(range(len(buckets)), key=lambda i: -work[i])
    }
    return [shares[i] for i in range(len(buckets))]


def size(mesh: Mapping[str, int], names: Iterable[str]) -> int:
    """How many devices there are along these axes of a mesh."""
    return math.prod(mesh[name] for name in names)


def _share(
    bucket: Bucket, team: Names, mesh: Mapping[str, int], work: float, load: np.ndarray
) -> Share:
    """A bucket's share; adds to each device's load what it gets of the rest."""
    shards = tuple(name for name in bucket.short + bucket.long if name not in team)
    taken = {*bucket.batch, *bucket.short, *bucket.long}
    replicas = tuple(name for name in mesh if name not in taken)
    if team and bucket.count <= size(mesh, shards):
        replicas = ()  # each does them all: there is nothing to gather, and as soon done
    devices = devices_of(replicas + shards, mesh)
    each, rest = divmod(bucket.count, len(devices))
    extra = np.full(len(devices), -1)
    lightest = _lightest(load[devices].max(1).reshape(size(mesh, replicas), -1))[:rest]
    extra[np.sort(lightest)] = np.arange(rest)
    load[devices[lightest]] += work
    return Share(replicas, shards, team, each, tuple(extra.tolist()))


def _lightest(load: np.ndarray) -> np.ndarray:
    """Owners, each replica's one with the least load first, then each one's second."""
    turn = load.argsort(1, kind="stable").argsort(1, kind="stable")
    return np.lexsort((load.ravel(), turn.ravel()))


def devices_of(names: Names, mesh: Mapping[str, int]) -> np.ndarray:
    """`[owner, member]`: the devices, by number, that have an owner's coordinates.

    Args:
      names: Mesh axes along which owners are counted.
      mesh: Axis → size, in order.

    Returns:
      Whole numbers, every device once.
    """
    axes = [*names, *(name for name in mesh if name not in names)]
    numbers = np.arange(size(mesh, mesh)).reshape([*mesh.values()])
    order = [list(mesh).index(name) for name in axes]
    return numbers.transpose(order).reshape(size(mesh, names), -1)


def _team(
    bucket: Bucket, mesh: Mapping[str, int], cost: Callable[[Bucket, int], float]
) -> Names:
    """The mesh axes over which a matrix stays spread, so that the bucket is done soonest."""
    others = [name for name in mesh if name not in bucket.batch]
    cuts = bucket.short + bucket.long
    teams = [t for k in range(len(cuts) + 1) for t in itertools.combinations(cuts, k)]

    def time(team: Names) -> float:
        if bucket.sides[1] % size(mesh, {*team, *bucket.long}):
            return math.inf
        owners = size(mesh, others) // size(mesh, team)
        return math.ceil(bucket.count / owners) * cost(bucket, size(mesh, team))

    return min(teams, key=time)
