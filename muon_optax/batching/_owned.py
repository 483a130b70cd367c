"""Measurements on a mesh. The owner of each matrix measures it.

The owner already has the matrix and its polar factor. Blocks of the gradient travel to the
owner. A team divides its matrices among its members. One all-gather then sends all numbers to
every device.
"""

import math
from collections.abc import Callable, Sequence
from itertools import islice
from typing import NamedTuple

import jax.numpy as jnp
import numpy as np
from jax import Array, lax

from muon_optax._casting import saturating_cast, wide_dtype
from muon_optax.batching._blocks import Placement, mesh_axes
from muon_optax.batching._collectives import Exchange
from muon_optax.batching._grid import DeviceGrid, Peers
from muon_optax.batching._measurement import compute_if
from muon_optax.batching._stages import Part
from muon_optax.polar._joining import group_indices


class Owned(NamedTuple):
    """Matrices that this device owns, `[per_owner, m, n]`, and their polar factors.

    A member of a team has parts `[per_owner, m, n/members]` of both.
    """

    part: Part
    matrices: Array
    polars: Array


def measure_owned(
    function: Callable[[Array, Array, Array], Array],
    owned: Sequence[Owned],
    gradients: Sequence[Array],
) -> Array:
    """Return the numbers `[row, k]` of all matrices, on every device.

    `gradients` has this device's blocks of the gradients of each part. `find_rows` returns the
    rows of each leaf.
    """
    stacks = []
    for (part, x, o), blocks in zip(owned, gradients):
        g = part.exchange.blocks_to_owners(saturating_cast(blocks, x.dtype))
        stacks.append(_divide_among_team(part.exchange, jnp.stack([g, x, o], axis=1)))
    numbers = [stacks[0]] * len(stacks)
    # Measure once for each shape: a TPU's compiler takes more than a minute for every SVD.
    for indices in group_indices([(x.shape[1:], x.dtype.name) for x in stacks]):
        exchanges = [owned[i].part.exchange for i in indices]
        found = _measure_each(
            function, exchanges, jnp.concatenate([stacks[i] for i in indices])
        )
        ends = np.cumsum([len(stacks[i]) for i in indices])
        for i, of_part in zip(indices, jnp.split(found, ends[:-1])):
            numbers[i] = of_part
    return _everyone(owned[0].part.exchange.grid).gather(jnp.concatenate(numbers))


def find_rows(
    parts: Sequence[Part],
    members: Sequence[Sequence[int]],
    placements: Sequence[Placement],
    shapes: Sequence[tuple[int, ...]],
) -> list[np.ndarray]:
    """Return for every leaf the rows of its matrices in the result of `measure_owned`.

    `members` are the positions of each group's stacks among all stacks, and `shapes` are the
    shapes of the leaves' blocks.
    """
    numbers = [
        _number_matrices(p, shape) for p, shape in zip(placements, shapes) for _ in p.view.sides
    ]
    found = [np.empty(of_stack.size, int) for of_stack in numbers]
    for indices, rows in zip(members, _find_rows_of_groups(parts)):
        ends = np.cumsum([numbers[i].shape[1] for i in indices])
        for i, of_stack in zip(indices, np.split(rows, ends[:-1], axis=1)):
            found[i][numbers[i]] = of_stack
    stacks = iter(found)
    return [np.concatenate([*islice(stacks, len(p.view.sides))]) for p in placements]


def gather_uncut_axes(x: Array, placement: Placement) -> Array:
    """Gather a device's part of a leaf along the axes whose cuts do not give blocks."""
    sizes = placement.sharding.mesh.shape
    specs = zip(placement.sharding.spec, placement.block_sharding.spec)
    for axis, (own, block) in enumerate(specs):
        names = tuple(name for name in mesh_axes(own) if sizes[name] > 1)
        if names and not mesh_axes(block):
            x = lax.all_gather(x, names, axis=axis, tiled=True)
    return x


def _measure_each(
    function: Callable[[Array, Array, Array], Array],
    exchanges: Sequence[Exchange],
    stacks: Array,
) -> Array:
    """Measure this device's matrices `[matrix, 3, m, n]`, one at a time."""

    def measure(triple: Array) -> Array:
        return function(*triple[:, None].astype(wide_dtype(triple.dtype)))[0]

    has_matrix = np.concatenate([*map(_find_places, exchanges)], axis=1)
    if has_matrix.all():
        return lax.map(measure, stacks)
    mine = jnp.asarray(has_matrix)[_everyone(exchanges[0].grid).index()]
    return lax.map(lambda of: compute_if(of[0], lambda: measure(of[1])), (mine, stacks))


def _divide_among_team(exchange: Exchange, stacks: Array) -> Array:
    """Return whole matrices `[measured, 3, m, n]` from this member's `[per_owner, 3, m, q]`."""
    team, measured = exchange.team, _num_measured(exchange)
    if team.size == 1:
        return stacks
    missing = measured * team.size - len(stacks)
    x = jnp.pad(stacks, [(0, missing), (0, 0), (0, 0), (0, 0)])
    x = team.exchange(x.reshape(team.size, measured, *x.shape[1:]))
    return jnp.moveaxis(x, 0, -2).reshape(*x.shape[1:-1], -1)


def _find_places(exchange: Exchange) -> np.ndarray:
    """Return `[device, position]`: whether the device measures a matrix at this position."""
    has_matrix = np.zeros([exchange.grid.num_devices, _num_measured(exchange)], bool)
    has_matrix[_find_devices(exchange)] = True
    return has_matrix


def _num_measured(exchange: Exchange) -> int:
    """Return the number of positions per device. A team's members divide its matrices."""
    return -(-exchange.ownership.per_owner // exchange.team.size)


def _find_devices(exchange: Exchange) -> tuple[np.ndarray, np.ndarray]:
    """Return the device that measures each matrix, and the position of the matrix there.

    The devices are `[batch device, matrix]`, and the positions `[matrix]`.
    """
    ownership, grid = exchange.ownership, exchange.grid
    owners, positions = np.divmod(np.arange(ownership.count), ownership.per_owner)
    if ownership.chosen is not None:
        owners = np.asarray(ownership.chosen)[owners]
    members, positions = np.divmod(positions, _num_measured(exchange))
    names = exchange.layout.batch + exchange.owners.names + ownership.team
    devices = grid.numbers(names)[:, 0].reshape(-1, exchange.owners.size, exchange.team.size)
    return devices[:, owners, members], positions


def _everyone(grid: DeviceGrid) -> Peers:
    return Peers(grid, tuple(grid.sizes))


def _find_rows_of_groups(parts: Sequence[Part]) -> list[np.ndarray]:
    """Return, for each group, the row of each matrix, `[batch device, matrix]`."""
    ends = np.cumsum([_num_measured(part.exchange) for part in parts])
    rows: dict[int, list[np.ndarray]] = {}
    for part, end in zip(parts, ends):
        devices, positions = _find_devices(part.exchange)
        first = end - _num_measured(part.exchange)
        rows.setdefault(part.group, []).append(devices * ends[-1] + first + positions)
    return [np.concatenate(rows[group], axis=1) for group in sorted(rows)]


def _number_matrices(placement: Placement, shape: Sequence[int]) -> np.ndarray:
    """Return the index of each device's matrices in the leaf's stack, `[batch device, matrix]`.

    `shape` is the shape of a device's block.
    """
    view, sizes = placement.view, placement.sharding.mesh.shape
    lengths = []  # for each axis of the leaf: devices, then matrices per device
    for axes, entry in zip(view.factors(tuple(shape)), placement.block_sharding.spec):
        names = [name for name in mesh_axes(entry) if name in placement.batch]
        lengths.append(math.prod(sizes[name] for name in names))
        lengths.append(math.prod(view.shape[axis] for axis in axes if axis in view.batch))
    axes = range(len(lengths))
    numbers = np.arange(math.prod(lengths)).reshape(lengths)
    numbers = numbers.transpose([*axes[::2], *axes[1::2]])
    return numbers.reshape(math.prod(lengths[::2]), -1)
