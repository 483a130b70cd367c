"""The polar step on a mesh: every device computes the polar factors of the matrices it owns.

    blocks of all leaves → groups of equal layout → parts with their owners → stages
    → blocks_to_owners → polar factors → owners_to_blocks
    → blocks of all leaves

Stages are independent, so the matrices of one stage can travel while those of another stage are
multiplied. Owners receive blocks in the order of devices, which permutes rows and columns. This
is harmless, because the polar factor of a permuted matrix is the permuted polar factor.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import partial
from itertools import islice

import jax
import jax.numpy as jnp
from jax import Array, lax
from jax.sharding import NamedSharding, PartitionSpec

from muon_optax._casting import saturating_cast
from muon_optax._platform import Platform, by_platform
from muon_optax.batching._blocks import BlockLayout, Placement, layout_of, orient, place
from muon_optax.batching._bucket import polar_on_device
from muon_optax.batching._grid import DeviceGrid, grid_of
from muon_optax.batching._measurement import Measurement, compute_if
from muon_optax.batching._owned import Owned, find_rows, gather_uncut_axes, measure_owned
from muon_optax.batching._ownership import Group, assign_owners
from muon_optax.batching._resharding import constrain
from muon_optax.batching._stages import Part, make_stages
from muon_optax.batching._static import StaticMethod
from muon_optax.dims import MatrixView
from muon_optax.polar._joining import group_indices, split
from muon_optax.polar._method import BatchedMethod, PolarMethod, batched


@dataclass(frozen=True)
class MeshMap:
    """A polar method for the matrices of many leaves whose shardings are on one mesh."""

    method: PolarMethod
    shardings: tuple[NamedSharding, ...]

    def map(
        self,
        leaves: Sequence[Array],
        views: Sequence[MatrixView],
        momenta: Sequence[Array | None],
        measurement: Measurement | None = None,
    ) -> tuple[list[Array], list[Array | None], list[Array | None]]:
        """Return polar factors with the leaves' shardings, momenta, and measurements."""
        results = list(leaves)
        numbers: list[Array | None] = [None] * len(leaves)
        nonempty = [index for index, x in enumerate(leaves) if x.size]
        if not nonempty:
            return results, list(momenta), numbers
        placements = tuple(
            place(views[i], leaves[i].shape, self.shardings[i]) for i in nonempty
        )
        given = [leaves[i] for i in nonempty]
        measurement = measurement and measurement.of_leaves(nonempty)
        found = _polar_on_mesh(StaticMethod(self.method), placements, given, measurement)
        for index, *of_leaf in zip(nonempty, *found):
            results[index], numbers[index] = of_leaf
        return results, list(momenta), numbers


@partial(jax.jit, static_argnums=(0, 1))
def _polar_on_mesh(
    static: StaticMethod,
    placements: tuple[Placement, ...],
    leaves: Sequence[Array],
    measurement: Measurement | None,
) -> tuple[list[Array], list[Array | None]]:
    specs = [placement.block_sharding.spec for placement in placements]
    blocks = [constrain(x, p.block_sharding) for x, p in zip(leaves, placements)]
    others = None
    if measurement is not None:  # gradients move only in steps that measure
        own = [placement.sharding for placement in placements]
        measurement = replace(
            measurement, gradients=[*map(constrain, measurement.gradients, own)]
        )
        others = replace(measurement, due=PartitionSpec(), gradients=[s.spec for s in own])
    # The owners depend on the platform, because costs and dtypes do.
    polar = partial(_polar_blocks, batched(static.method), placements)
    on_mesh = jax.shard_map(
        partial(by_platform, polar),
        mesh=placements[0].sharding.mesh,
        in_specs=(specs, others),
        out_specs=(specs, PartitionSpec()),
        check_vma=False,  # JAX does not know that an all-gather gives equal results
    )
    polars, numbers = on_mesh(blocks, measurement)
    return [constrain(y, p.sharding) for y, p in zip(polars, placements)], numbers


def _polar_blocks(
    method: BatchedMethod,
    placements: Sequence[Placement],
    platform: Platform,
    blocks: Sequence[Array],
    measurement: Measurement | None,
) -> tuple[list[Array], list[Array | None]]:
    """Return this device's blocks of the polar factors, and the measurements of each leaf.

    `blocks` are this device's blocks of all leaves.
    """
    grid = grid_of(placements[0].sharding.mesh.shape)
    stacks = _to_stacks(placements, blocks)
    placed = [p for p in placements for _ in p.view.sides]
    found = orient([layout_of(p, grid, x.shape, x.dtype) for p, x in zip(placed, stacks)])
    layouts, turned = [layout for layout, _ in found], [is_turned for _, is_turned in found]
    members = group_indices(layouts)
    polars, owned = _polar_stacks(
        method, platform, grid, layouts, members, _turn(stacks, turned)
    )
    polars = iter(_turn(polars, turned))
    results = [
        p.view.from_matrices([*islice(polars, len(p.view.sides))], x.shape)
        for p, x in zip(placements, blocks)
    ]
    if measurement is None:
        return results, [None for _ in results]

    def measure() -> list[Array]:
        gradients = [*map(gather_uncut_axes, measurement.gradients, placements)]
        stacks = _turn(_to_stacks(placements, gradients), turned)
        grouped = [[stacks[i] for i in indices] for indices in members]
        parts = [one.part for one in owned]
        sent = [_take(grouped[part.group], part.start, part.stop) for part in parts]
        numbers = measure_owned(measurement.function, owned, sent)
        rows = find_rows(parts, members, placements, [x.shape for x in blocks])
        return [numbers[of_leaf] for of_leaf in rows]

    return results, compute_if(measurement.due, measure)


def _to_stacks(placements: Sequence[Placement], blocks: Sequence[Array]) -> list[Array]:
    """Return the matrices in the blocks of all leaves, one or several stacks per leaf."""
    return [x for p, block in zip(placements, blocks) for x in p.view.to_matrices(block)]


def _turn(stacks: Sequence[Array], turned: Sequence[bool]) -> list[Array]:
    """Return the stacks, transposed where `turned` is true."""
    return [x.mT if is_turned else x for x, is_turned in zip(stacks, turned)]


def _polar_stacks(
    method: BatchedMethod,
    platform: Platform,
    grid: DeviceGrid,
    layouts: Sequence[BlockLayout],
    members: Sequence[Sequence[int]],
    stacks: Sequence[Array],
) -> tuple[list[Array], list[Owned]]:
    """Return two lists: polar factors of stacks of blocks, and the matrices of this device.

    `members` has the positions of the stacks of each layout.
    """
    groups = []
    for indices in members:
        layout, count = layouts[indices[0]], sum(len(stacks[i]) for i in indices)
        plan = method.plan(*layout.sides, layout.dtype, platform)
        groups.append(Group(layout, count, plan))
    blocks = [
        [
            saturating_cast(stacks[i], group.plan.wire_dtype or group.layout.dtype)
            for i in indices
        ]
        for group, indices in zip(groups, members)
    ]
    found, owned = [[] for _ in groups], []  # `found` has each group's parts of polar factors
    for stage in make_stages(groups, assign_owners(groups, grid, platform), grid, platform):
        sent = [_take(blocks[part.group], part.start, part.stop) for part in stage]
        polars, of_stage = _polar_of_stage(method, platform, stage, sent)
        for part, ys in zip(stage, polars):
            found[part.group].append(ys)
        owned += of_stage
    polars = list(stacks)
    for indices, parts in zip(members, found):
        shapes = [stacks[i].shape for i in indices]
        for i, y in zip(indices, split(jnp.concatenate(parts), shapes)):
            polars[i] = y.astype(stacks[i].dtype)
    return polars, owned


def _take(stacks: Sequence[Array], start: int, stop: int) -> Array:
    """Return the matrices `start` to `stop` of the concatenated stacks."""
    taken = []
    for x in stacks:
        if start < len(x) and stop > 0:
            taken.append(x[max(start, 0) : stop])
        start, stop = start - len(x), stop - len(x)
    return jnp.concatenate(taken)


def _polar_of_stage(
    method: BatchedMethod, platform: Platform, stage: Sequence[Part], blocks: Sequence[Array]
) -> tuple[list[Array], list[Owned]]:
    """Return blocks of the polar factors of a stage, and the matrices this device owns."""
    # With the barrier, XLA writes only once what it sends, and the stages stay independent.
    blocks = lax.optimization_barrier(list(blocks))
    owned = [part.exchange.blocks_to_owners(x) for part, x in zip(stage, blocks)]
    polars = _polar_owned(method, platform, stage, owned)
    received = [part.exchange.owners_to_blocks(y) for part, y in zip(stage, polars)]
    return received, [*map(Owned, stage, owned, polars)]


def _polar_owned(
    method: BatchedMethod, platform: Platform, stage: Sequence[Part], stacks: Sequence[Array]
) -> list[Array]:
    """Return the polar factors of the matrices that this device owns."""

    def polar(stacks: Sequence[Array]) -> list[Array]:
        return polar_on_device(method, platform, stacks, [None] * len(stacks))[0]

    # Every device has matrices of these parts, so several parts may share a call.
    is_even = [not p.exchange.ownership.team and not p.exchange.ownership.chosen for p in stage]
    polars = polar([x[: len(x) if even else 0] for x, even in zip(stacks, is_even)])
    for i, (part, x) in enumerate(zip(stage, stacks)):
        team = part.exchange.team
        if team.size > 1:  # teams compute fillers, too, because all exchange at the same time
            prepared = [method.prepare(x, platform)]
            polars[i] = method.polar_stacks(prepared, platform, team)[0].astype(x.dtype)
        elif not is_even[i]:
            has_one = jnp.asarray(part.exchange.is_owner.ravel())[part.exchange.owners.index()]
            polars[i] = lax.cond(has_one, lambda x: polar([x])[0], jnp.zeros_like, x)
    return polars
