"""How a mesh cuts the matrices of an array into blocks, along batch, rows and columns.

A kernel `[in, heads, out]` of shape [16, 8, 4] is a 16 × 32 matrix. PartitionSpec("fsdp", "tp")
on a mesh of 4 × 2 gives each device a block of 4 × 16: `rows=("fsdp",)`, `columns=("tp",)`.
"""

import dataclasses
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import jax.numpy as jnp
from jax.sharding import NamedSharding, PartitionSpec
from jax.typing import DTypeLike

from muon_optax.batching._grid import DeviceGrid, Names
from muon_optax.dims import MatrixView


@dataclass(frozen=True)
class Placement:
    """How a mesh cuts the matrices of a leaf.

    Attributes:
      sharding: The leaf's sharding.
      block_sharding: The leaf's sharding, without cuts that do not give blocks of matrices.
      view: The view of one device's part of the leaf, in `block_sharding`.
      batch: Mesh axes along which devices have different matrices.
      rows: Mesh axes along which devices have different rows of the same matrices.
      columns: Mesh axes along which devices have different columns of the same matrices.
    """

    sharding: NamedSharding
    block_sharding: NamedSharding
    view: MatrixView
    batch: Names
    rows: Names
    columns: Names


@dataclass(frozen=True)
class BlockLayout:
    """The dimensions, dtype and cuts of a matrix. Matrices of equal layout travel together.

    Attributes:
      sides: `(m, n)` of the whole matrix, or of its transpose if it is tall, so that m ≤ n.
      dtype: The name of the dtype.
      batch: Factors of mesh axes along which devices have different matrices.
      short: Factors of mesh axes that cut the short side.
      long: Factors of mesh axes that cut the long side.
      is_tall: Whether the matrix is tall, in memory and when devices exchange it.
    """

    sides: tuple[int, int]
    dtype: str
    batch: Names
    short: Names
    long: Names
    is_tall: bool = False


def layout_of(
    placement: Placement, grid: DeviceGrid, shape: Sequence[int], dtype: DTypeLike
) -> tuple[BlockLayout, bool]:
    """Return the layout of a stack with blocks `[batch, p, q]`, and whether the stack is tall.

    A tall stack gets the layout of its transpose.
    """
    cuts = placement.batch, placement.rows, placement.columns
    batch, rows, columns = map(grid.factors, cuts)
    fan_in, fan_out = shape[1] * grid.count(rows), shape[2] * grid.count(columns)
    name = jnp.dtype(dtype).name
    if fan_in > fan_out:
        return BlockLayout((fan_out, fan_in), name, batch, columns, rows), True
    return BlockLayout((fan_in, fan_out), name, batch, rows, columns), False


def orient(found: Sequence[tuple[BlockLayout, bool]]) -> list[tuple[BlockLayout, bool]]:
    """Return the layouts of stacks, and whether each stack has to be transposed.

    Tall stacks are transposed if wide stacks have the same layout, so that both travel
    together.
    """
    wide = {layout for layout, is_tall in found if not is_tall}
    return [
        (dataclasses.replace(layout, is_tall=True), False)
        if is_tall and layout not in wide
        else (layout, is_tall)
        for layout, is_tall in found
    ]


def place(view: MatrixView, shape: Sequence[int], sharding: NamedSharding) -> Placement:
    """Return the placement of an array with this view, shape and sharding.

    An axis whose cut does not give blocks is not cut. Examples are a fused axis, and an axis of
    heads times depth that the sharding cuts within a head.
    """
    mesh = sharding.mesh.shape
    lengths = list(view.shape)
    cut_by: dict[str, list[str]] = {"batch": [], "reduction": [], "output": []}
    spec = []
    entries = [*sharding.spec, *[None] * (len(shape) - len(sharding.spec))]
    for entry, factors in zip(entries, view.factors(tuple(shape))):
        names = tuple(name for name in mesh_axes(entry) if mesh[name] > 1)
        sides, lengths = _cut(view, factors, lengths, {name: mesh[name] for name in names})
        spec.append(names if sides else None)
        for name, side in sides.items():
            cut_by[side].append(name)
    local_view = dataclasses.replace(view, shape=tuple(lengths))
    return Placement(
        sharding=sharding,
        block_sharding=NamedSharding(sharding.mesh, PartitionSpec(*spec)),
        view=local_view,
        batch=tuple(cut_by["batch"]),
        rows=tuple(cut_by["reduction"]),
        columns=tuple(cut_by["output"]),
    )


def mesh_axes(entry: object) -> Names:
    """Return the mesh axes in one entry of a `PartitionSpec`."""
    if isinstance(entry, str):
        return (entry,)
    return entry if isinstance(entry, tuple) else ()


def _cut(
    view: MatrixView, factors: Sequence[int], lengths: list[int], mesh: Mapping[str, int]
) -> tuple[dict[str, str], list[int]]:
    """Return the side that each mesh axis cuts, and the lengths of the view's axes afterwards.

    `factors` are the axes of the view that make up one axis of the array. If the cuts do not
    give blocks, no mesh axis is returned and the lengths do not change.
    """
    block, sides = list(lengths), {}
    for name, size in mesh.items():
        for factor in factors:
            if size == 1 or block[factor] == 1:
                continue
            side = _side(view, factor)
            # A cut that begins in one side and ends in another does not give blocks.
            if factor == view.divided or sides.setdefault(name, side) != side:
                return {}, lengths
            common = math.gcd(block[factor], size)
            block[factor] //= common
            size //= common
    return sides, block


def _side(view: MatrixView, axis: int) -> str:
    """Return the side that an axis of a view belongs to: batch, reduction or output."""
    if axis in view.batch:
        return "batch"
    return "reduction" if axis in view.reduction else "output"
