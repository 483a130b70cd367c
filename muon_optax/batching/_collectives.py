"""Collectives that send blocks to the owners of matrices, and polar factors back.

For example, four devices along "fsdp" each have a block of rows of eight matrices:

    blocks_to_owners   [8, m/4, n] → all-to-all → [2, m, n]: two whole matrices
    owners_to_blocks   [2, m, n] → all-to-all → [8, m/4, n]

If there are only two matrices, each is owned by a team of two devices, which divide its
columns: [2, m/4, n] → all-to-all → [1, m, n/2].

These functions run on every device of a mesh, under `jax.shard_map`.
"""

import math
from dataclasses import dataclass

import jax.numpy as jnp
import numpy as np
from jax import Array, lax

from muon_optax.batching._blocks import BlockLayout
from muon_optax.batching._grid import DeviceGrid, Names, Peers
from muon_optax.batching._ownership import Ownership


@dataclass(frozen=True)
class Exchange:
    """The exchange of some matrices with their owners.

    An owner gets the rows of a matrix from the devices along the cuts of its short side. It
    gets the columns from the devices along the cuts of its long side. If such a cut is within a
    team, the team's members keep their own columns. Members that have equal columns take a
    piece of them each.

    Attributes:
      layout: How the matrices are cut.
      ownership: The owners of the matrices.
      grid: All devices.
    """

    layout: BlockLayout
    ownership: Ownership
    grid: DeviceGrid

    @property
    def team(self) -> Peers:
        """The devices that share this device's matrices."""
        return Peers(self.grid, self.ownership.team)

    @property
    def owners(self) -> Peers:
        """One device of every owner."""
        return Peers(self.grid, self.ownership.replicas + self.ownership.shards)

    @property
    def is_owner(self) -> np.ndarray:
        """`[replica, shard]`: whether an owner has matrices."""
        number, chosen = np.arange(self.owners.size), self.ownership.chosen
        found = np.isin(number, number if chosen is None else chosen)
        return found.reshape(self._replicas.size, -1)

    @property
    def sources(self) -> Peers:
        """The devices that have the blocks of an owner's matrix, by rows, then by columns."""
        shards = self.ownership.shards
        columns = (name for name in self.layout.long if name in shards)
        return Peers(self.grid, (*self.layout.short, *columns))

    @property
    def equal(self) -> Peers:
        """The devices with equal blocks: all replicas, and some members of the team."""
        return Peers(self.grid, self.ownership.replicas + self._alike.names)

    def blocks_to_owners(self, blocks: Array) -> Array:
        """Return this owner's matrices `[per_owner, m, n]` from all blocks `[count, p, q]`.

        A member of a team gets `[per_owner, m, n/members]`, always wide. This takes one
        all-to-all, or none if the matrices are not cut.
        """
        pieces = ("alike", *self._cut_by_team)
        x, sizes = self._select(blocks), self._sizes
        now = (*self.ownership.shards, "length", *self._matrix(("p",), (*pieces, "q")))
        x = x.reshape([sizes[name] for name in now])
        x = _index(x, self._alike, now.index("alike"))
        now = tuple(name for name in now if name != "alike")
        x = _reorder(x, now, (*self.sources.names, *self._block))
        x = self.sources.exchange(x.reshape(-1, *(sizes[name] for name in self._block)))
        now = ("rows", "columns", *self._block)
        x = _reorder(x.reshape([sizes[name] for name in now]), now, self._assembled)
        x = x.reshape(sizes["length"], math.prod(x.shape[1:3]), -1)
        return x.mT if self._is_turned else x

    def owners_to_blocks(self, matrices: Array) -> Array:
        """Return this device's blocks `[count, p, q]` from the matrices of all owners.

        This is the inverse of `blocks_to_owners`. It takes one all-to-all if the matrices are
        cut, and one all-gather if devices have equal blocks.
        """
        x, sizes = matrices.mT if self._is_turned else matrices, self._sizes
        x = x.reshape([sizes[name] for name in self._assembled])
        x = _reorder(x, self._assembled, ("rows", "columns", *self._block))
        x = self.sources.exchange(x.reshape(-1, *(sizes[name] for name in self._block)))
        now = (*self.sources.names, *self._block)
        x = x.reshape([sizes[name] for name in now])
        pieces = self._cut_by_team
        then = (*self.ownership.shards, "length", *self._matrix(("p",), (*pieces, "q")))
        x = _reorder(x, now, then)
        return self._merge(x.reshape(-1, *x.shape[len(self.ownership.shards) :]))

    @property
    def _replicas(self) -> Peers:
        return Peers(self.grid, self.ownership.replicas)

    @property
    def _cut_by_team(self) -> Names:
        """The team's factors that cut the short side, and the long side after an all-to-all."""
        return tuple(name for name in self.layout.short if name in self.ownership.team)

    @property
    def _alike(self) -> Peers:
        """The members of the team that have equal blocks."""
        cuts = self.layout.short + self.layout.long
        return Peers(self.grid, tuple(n for n in self.ownership.team if n not in cuts))

    @property
    def _block(self) -> Names:
        """The axes of the blocks that one device sends to another."""
        return ("length", *self._matrix(("p",), ("q",)))

    @property
    def _assembled(self) -> Names:
        """The axes of an owner's matrices, or of a member's parts."""
        return ("length", *self._matrix(("rows", "p"), ("columns", "q")))

    @property
    def _is_turned(self) -> bool:
        """Whether tall matrices are transposed, because a team's parts have to be wide."""
        return self.layout.is_tall and self.team.size > 1

    @property
    def _sizes(self) -> dict[str, int]:
        """The size of every axis."""
        (m, n), count = self.layout.sides, self.grid.count
        rows, pieces = count(self.layout.short), count(self._cut_by_team) * self._alike.size
        sizes = {"length": self.ownership.per_owner, "alike": self._alike.size}
        sizes |= {"rows": rows, "columns": self.sources.size // rows}
        sizes |= {"p": m // rows, "q": n // count(self.layout.long) // pieces}
        return sizes | dict(self.grid.sizes)

    def _matrix(self, short: Names, long: Names) -> Names:
        """Return the axes of a matrix, in the order in which they are stored."""
        return (*long, *short) if self.layout.is_tall else (*short, *long)

    def _select(self, blocks: Array) -> Array:
        """Return the blocks to send, `[shard, length, p, q]`, for this replica's matrices.

        Where there are not enough matrices, fillers (copies or zeros) take their places.
        """
        owners, length = self.is_owner.shape, self.ownership.per_owner
        if self.ownership.chosen is not None:
            table = np.zeros(owners, int)  # fillers are copies of the first matrix
            table[self.is_owner] = np.arange(self.ownership.count)
            return blocks[_index(jnp.asarray(table), self._replicas)][:, None]
        if fillers := self.is_owner.size * length - len(blocks):
            blocks = jnp.pad(blocks, [(0, fillers), (0, 0), (0, 0)])
        return _index(blocks.reshape(*owners, length, *blocks.shape[1:]), self._replicas)

    def _merge(self, x: Array) -> Array:
        """Return this device's blocks `[count, p, q]` of all matrices.

        They are gathered from all devices with equal blocks. `x` has the results of this
        replica's owners, `[shard, length, ...]`.
        """
        has_matrix, block = self.is_owner, x.shape[2:]
        if not has_matrix.all():  # all replicas send as many blocks as the one with the most
            most = has_matrix.sum(1).max()
            order = np.argsort(~has_matrix, axis=1, kind="stable")[:, :most]
            x = x[_index(jnp.asarray(order), self._replicas)]
            has_matrix = np.take_along_axis(has_matrix, order, axis=1)
        pieces = (*self._cut_by_team, "q")
        now = ("replica", "alike", "shard", "length", *self._matrix(("p",), pieces))
        x = self.equal.gather(x[None])
        x = x.reshape(self._replicas.size, self._alike.size, -1, x.shape[2], *block)
        pieces = ("alike", *pieces)
        x = _reorder(x, now, ("replica", "shard", "length", *self._matrix(("p",), pieces)))
        p, q = x.shape[3], math.prod(x.shape[4:])
        if self.layout.is_tall:
            p, q = math.prod(x.shape[3:-1]), x.shape[-1]
        x = x.reshape(-1, p, q)
        if not has_matrix.all():
            return x[np.flatnonzero(has_matrix)]
        return x[: self.ownership.count]


def _reorder(x: Array, now: Names, then: Names) -> Array:
    """Put the axes `now` of x in the order `then`."""
    return x.transpose([now.index(name) for name in then])


def _index(x: Array, peers: Peers, axis: int = 0) -> Array:
    """Return this device's part of `x`, along an axis with one entry per peer."""
    if peers.size == 1:
        return x.squeeze(axis)
    return lax.dynamic_index_in_dim(x, peers.index(), axis % x.ndim, keepdims=False)
