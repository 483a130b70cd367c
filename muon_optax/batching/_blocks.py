"""Knows how a mesh cuts an array's matrices: which axes of it cut batch, rows, columns."""

import dataclasses
import math
from collections.abc import Sequence
from dataclasses import dataclass

from jax.sharding import NamedSharding, PartitionSpec

from muon_optax.dims import MatrixView

Names = tuple[str, ...]  # of mesh axes, the slowest first


@dataclass(frozen=True)
class Placement:
    """How a leaf lies on a mesh.

    Attributes:
      sharding: What the polar step takes it in: the leaf's own sharding, without what would
        not leave blocks of its matrices.
      view: Of the block that one device has.
      batch: The mesh axes along which devices have different matrices.
      rows: Those along which they have different rows of the same.
      columns: And different columns.
    """

    sharding: NamedSharding
    view: MatrixView
    batch: Names
    rows: Names
    columns: Names


def place(view: MatrixView, shape: Sequence[int], sharding: NamedSharding) -> Placement:
    """The placement of an array of that shape, view and sharding.

    Where a device's part is no block (a fused axis whose parts the cut does not respect, say),
    that axis of the array is taken whole.

    Args:
      view: Of the whole array.
      shape: Its shape.
      sharding: Its sharding.

    Returns:
      The placement.
    """
    sizes, lengths = dict(sharding.mesh.shape), list(view.shape)
    cuts: dict[str, list[str]] = {"batch": [], "reduction": [], "output": []}
    spec = []
    entries = (*sharding.spec, *[None] * (len(shape) - len(sharding.spec)))
    for entry, factors in zip(entries, view.factors(tuple(shape))):
        cut = (entry,) if isinstance(entry, str) else entry
        names = tuple(n for n in cut if sizes[n] > 1) if isinstance(cut, tuple) else ()
        found = _cut(view, factors, lengths, {name: sizes[name] for name in names})
        spec.append(names if found else None)
        for name, side in found.items():
            cuts[side].append(name)
    batch, rows, columns = (tuple(names) for names in cuts.values())
    local = dataclasses.replace(view, shape=tuple(lengths))
    whole = NamedSharding(sharding.mesh, PartitionSpec(*spec))
    return Placement(whole, local, batch, rows, columns)


def _cut(
    view: MatrixView, factors: Sequence[int], lengths: list[int], sizes: dict[str, int]
) -> dict[str, str]:
    """What each mesh axis cuts, their lengths written to `lengths`; nothing if no block."""
    local, found = list(lengths), {}
    for name, size in sizes.items():
        for factor in factors:
            if size == 1 or local[factor] == 1:
                continue
            common = math.gcd(local[factor], size)
            # What begins in one side and ends in another leaves no blocks.
            clash = found.setdefault(name, _side(view, factor)) != _side(view, factor)
            if clash or factor == view.divided:
                return {}
            local[factor] //= common
            size //= common
    lengths[:] = local
    return found


def _side(view: MatrixView, factor: int) -> str:
    """What an axis of a view is part of."""
    return next(s for s in ("batch", "reduction", "output") if factor in getattr(view, s))
