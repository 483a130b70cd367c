"""The polar step on a mesh: every device computes the polar factors of the matrices it owns.

    blocks of all leaves → groups of equal layout → parts, each with its owners → stages
    → blocks_to_owners → polar factors → owners_to_blocks
    → blocks of all leaves

A stage depends on no other, so that its matrices can travel while others are multiplied.
Owners see blocks in the order of devices, not of the array. That permutes rows and columns of
a matrix, and the polar factor of a permuted matrix is the permuted polar factor.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial

import jax
import jax.numpy as jnp
from jax import Array, lax
from jax.sharding import NamedSharding

from muon_optax._casting import saturating_cast
from muon_optax._platform import Platform, by_platform
from muon_optax.batching._blocks import BlockLayout, Placement, layout_of, orient, place
from muon_optax.batching._bucket import polar_on_device
from muon_optax.batching._grid import DeviceGrid, grid_of
from muon_optax.batching._ownership import Group, assign_owners
from muon_optax.batching._resharding import constrain
from muon_optax.batching._stages import Part, make_stages
from muon_optax.batching._static import StaticMethod
from muon_optax.dims import MatrixView
from muon_optax.polar._joining import group_indices, split
from muon_optax.polar._method import BatchedMethod, PolarMethod, batched


@dataclass(frozen=True)
class MeshMap:
    """A method over the matrices of many leaves, whose shardings are on one mesh."""

    method: PolarMethod
    shardings: tuple[NamedSharding, ...]

    def map(
        self,
        leaves: Sequence[Array],
        views: Sequence[MatrixView],
        momenta: Sequence[Array | None],
    ) -> tuple[list[Array], list[Array | None]]:
        """The polar factors of all matrices, in the leaves' shapes, dtypes and shardings."""
        results = list(leaves)
        nonempty = [index for index, x in enumerate(leaves) if x.size]
        if not nonempty:
            return results, list(momenta)
        placements = tuple(
            place(views[i], leaves[i].shape, self.shardings[i]) for i in nonempty
        )
        given = [leaves[i] for i in nonempty]
        polars = _polar_on_mesh(StaticMethod(self.method), placements, given)
        for index, y in zip(nonempty, polars):
            results[index] = y
        return results, list(momenta)


@partial(jax.jit, static_argnums=(0, 1))
def _polar_on_mesh(
    static: StaticMethod,
    placements: tuple[Placement, ...],
    leaves: Sequence[Array],
) -> list[Array]:
    specs = [placement.block_sharding.spec for placement in placements]
    # Costs and dtypes depend on the platform, and so do the owners.
    polar = partial(_polar_blocks, batched(static.method), placements)
    on_mesh = jax.shard_map(
        partial(by_platform, polar),
        mesh=placements[0].sharding.mesh,
        in_specs=(specs,),
        out_specs=specs,
        check_vma=False,  # JAX does not see that an all-gather gives equal results
    )
    blocks = [constrain(x, p.block_sharding) for x, p in zip(leaves, placements)]
    return [constrain(y, p.sharding) for y, p in zip(on_mesh(blocks), placements)]


def _polar_blocks(
    method: BatchedMethod,
    placements: Sequence[Placement],
    platform: Platform,
    blocks: Sequence[Array],
) -> list[Array]:
    """This device's blocks of the polar factors, from its blocks of all leaves."""
    nested = [p.view.to_matrices(x) for p, x in zip(placements, blocks)]
    stacks, treedef = jax.tree.flatten(nested)
    placed = [p for p, xs in zip(placements, nested) for _ in xs]
    grid = grid_of(placements[0].sharding.mesh.shape)
    found = orient([layout_of(p, grid, x.shape, x.dtype) for p, x in zip(placed, stacks)])
    layouts, turned = [layout for layout, _ in found], [is_turned for _, is_turned in found]
    given = [x.mT if is_turned else x for x, is_turned in zip(stacks, turned)]
    polars = _polar_stacks(method, platform, grid, layouts, given)
    nested = treedef.unflatten([y.mT if t else y for y, t in zip(polars, turned)])
    return [p.view.from_matrices(ys, x.shape) for p, ys, x in zip(placements, nested, blocks)]


def _polar_stacks(
    method: BatchedMethod,
    platform: Platform,
    grid: DeviceGrid,
    layouts: Sequence[BlockLayout],
    stacks: Sequence[Array],
) -> list[Array]:
    """The blocks of the polar factors of matrices, from stacks of their blocks."""
    members = group_indices(layouts)
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
    found = [[] for _ in groups]  # the polar factors of each group, part by part
    for stage in make_stages(groups, assign_owners(groups, grid, platform), grid, platform):
        sent = [_take(blocks[part.group], part.start, part.stop) for part in stage]
        for part, ys in zip(stage, _polar_of_stage(method, platform, stage, sent)):
            found[part.group].append(ys)
    polars = list(stacks)
    for indices, parts in zip(members, found):
        shapes = [stacks[i].shape for i in indices]
        for i, y in zip(indices, split(jnp.concatenate(parts), shapes)):
            polars[i] = y.astype(stacks[i].dtype)
    return polars


def _take(stacks: Sequence[Array], start: int, stop: int) -> Array:
    """The matrices from `start` to `stop` of all stacks, counted through."""
    taken = []
    for x in stacks:
        if start < len(x) and stop > 0:
            taken.append(x[max(start, 0) : stop])
        start, stop = start - len(x), stop - len(x)
    return jnp.concatenate(taken)


def _polar_of_stage(
    method: BatchedMethod, platform: Platform, stage: Sequence[Part], blocks: Sequence[Array]
) -> list[Array]:
    """The polar factors' blocks, from the blocks of a stage's matrices."""
    # So that what is sent is written once, and no stage waits for another.
    blocks = lax.optimization_barrier(list(blocks))
    owned = [part.exchange.blocks_to_owners(x) for part, x in zip(stage, blocks)]
    return [
        part.exchange.owners_to_blocks(y)
        for part, y in zip(stage, _polar_owned(method, platform, stage, owned))
    ]


def _polar_owned(
    method: BatchedMethod, platform: Platform, stage: Sequence[Part], stacks: Sequence[Array]
) -> list[Array]:
    """The polar factors of the matrices that this device owns."""

    def polar(stacks: Sequence[Array]) -> list[Array]:
        return polar_on_device(method, platform, stacks, [None] * len(stacks))[0]

    # Every device has these, so matrices of several parts may share a call.
    is_even = [not p.exchange.ownership.team and not p.exchange.ownership.chosen for p in stage]
    polars = polar([x[: len(x) if even else 0] for x, even in zip(stacks, is_even)])
    for i, (part, x) in enumerate(zip(stage, stacks)):
        team = part.exchange.team
        if team.size > 1:  # which compute fillers, too, because all exchange at the same time
            prepared = [method.prepare(x, platform)]
            polars[i] = method.polar_stacks(prepared, platform, team)[0].astype(x.dtype)
        elif not is_even[i]:
            has_one = jnp.asarray(part.exchange.is_owner.ravel())[part.exchange.owners.index()]
            polars[i] = lax.cond(has_one, lambda x: polar([x])[0], jnp.zeros_like, x)
    return polars
