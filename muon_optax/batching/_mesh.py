"""The polar step on a mesh: every device computes the polar factors of the matrices it owns.

    blocks of all leaves → groups of equal layout
    → blocks_to_owners → polar factors → owners_to_blocks
    → blocks of all leaves

Owners see blocks in the order of devices, not of the array. That permutes rows and columns of
a matrix, and the polar factor of a permuted matrix is the permuted polar factor.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array, lax
from jax.sharding import NamedSharding

from muon_optax._casting import saturating_cast
from muon_optax._platform import Platform, by_platform
from muon_optax.batching._blocks import BlockLayout, Placement, layout_of, place
from muon_optax.batching._bucket import polar_on_device
from muon_optax.batching._collectives import blocks_to_owners, owner_index, owners_to_blocks
from muon_optax.batching._ownership import Group, Ownership, assign_owners
from muon_optax.batching._resharding import constrain
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
    found = [layout_of(p, x.shape, x.dtype) for p, x in zip(placed, stacks)]
    layouts, are_tall = [layout for layout, _ in found], [is_tall for _, is_tall in found]
    wide = [x.mT if is_tall else x for x, is_tall in zip(stacks, are_tall)]
    # An axis of one device has nothing to exchange.
    mesh = {name: n for name, n in placements[0].sharding.mesh.shape.items() if n > 1}
    polars = _polar_wide(method, platform, mesh, layouts, wide)
    nested = treedef.unflatten([y.mT if t else y for y, t in zip(polars, are_tall)])
    return [p.view.from_matrices(ys, x.shape) for p, ys, x in zip(placements, nested, blocks)]


def _polar_wide(
    method: BatchedMethod,
    platform: Platform,
    mesh: Mapping[str, int],
    layouts: Sequence[BlockLayout],
    stacks: Sequence[Array],
) -> list[Array]:
    """The blocks of the polar factors of wide matrices, from stacks of their blocks."""
    members = group_indices(layouts)
    groups, joined = [], []
    for indices in members:
        layout = layouts[indices[0]]
        plan = method.plan(*layout.sides, layout.dtype, platform)
        dtype = plan.wire_dtype or layout.dtype
        x = jnp.concatenate([saturating_cast(stacks[i], dtype) for i in indices])
        groups.append(Group(layout, len(x), plan))
        joined.append(x)
    ownerships = assign_owners(groups, mesh)
    owned = [
        blocks_to_owners(x, g.layout, o).astype(g.layout.dtype)
        for x, g, o in zip(joined, groups, ownerships)
    ]
    polars = list(stacks)
    owned_polars = _polar_owned(method, platform, ownerships, owned)
    for indices, x, y, g, o in zip(members, joined, owned_polars, groups, ownerships):
        blocks = owners_to_blocks(saturating_cast(y, x.dtype), g.layout, o)
        for i, part in zip(indices, split(blocks, [stacks[i].shape for i in indices])):
            polars[i] = part.astype(stacks[i].dtype)
    return polars


def _polar_owned(
    method: BatchedMethod,
    platform: Platform,
    ownerships: Sequence[Ownership],
    stacks: Sequence[Array],
) -> list[Array]:
    """The polar factors of the matrices that this device owns."""

    def polar(stacks: Sequence[Array]) -> list[Array]:
        return polar_on_device(method, platform, stacks, [None] * len(stacks))[0]

    # Every device has these, so matrices of several groups may share a call.
    even = [x[: 0 if o.team else o.num_per_owner] for x, o in zip(stacks, ownerships)]
    polars = polar(even)
    for i, (o, x) in enumerate(zip(ownerships, stacks)):
        if o.team:
            # Its members sum Gram matrices at the same time, so fillers are computed, too.
            parts = [method.prepare(x, platform)]
            polars[i] = method.polar_stacks(parts, platform, o.team)[0].astype(x.dtype)
        elif o.has_remainder:
            has_one = jnp.asarray(np.array(o.remainder) >= 0)[owner_index(o)]
            last = x[o.num_per_owner :]
            y = lax.cond(has_one, lambda x: polar([x])[0], jnp.zeros_like, last)
            polars[i] = jnp.concatenate([polars[i], y])
    return polars
