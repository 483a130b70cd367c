"""Knows how many devices share the polar step: every one has matrices of its own.

Equal matrices that lie alike on the mesh are a bucket. They are dealt to all devices; one
all-to-all brings each its own, another brings the polar factors back to where the parameters
are. Nothing moves inside the iteration, and nothing at all where devices have whole matrices.
"""

from collections.abc import Sequence
from functools import partial

import jax
from jax import Array
from jax.sharding import NamedSharding

from muon_optax.batching._blocks import place
from muon_optax.batching._mesh import polar_on_each
from muon_optax.batching._placement import constrain
from muon_optax.batching._placement import gather_explicit as gather_explicit
from muon_optax.batching._placement import place_on_mesh as place_on_mesh
from muon_optax.batching._placement import replicate as replicate
from muon_optax.batching._placement import replicate_unsharded as replicate_unsharded
from muon_optax.batching._placement import scatter_like as scatter_like
from muon_optax.batching._shardings import Shardings as Shardings
from muon_optax.batching._shardings import check_shardings as check_shardings
from muon_optax.batching._shardings import infer_shardings as infer_shardings
from muon_optax.dims import MatrixView
from muon_optax.polar import PolarMethod


@partial(jax.jit, static_argnums=(0, 2, 3, 4))
def polar_sharded(
    method: PolarMethod,
    leaves: Sequence[Array],
    views: Sequence[MatrixView],
    shardings: Sequence[NamedSharding],
    max_bytes: int | None = None,
) -> list[Array]:
    """The polar factors of the matrices of all leaves, each device doing its part.

    Args:
      method: Any polar method.
      leaves: Arrays on one mesh.
      views: A tuple with the view of each.
      shardings: A tuple with the sharding of each.
      max_bytes: See `stacking.map_stacked`; of one device's matrices.

    Returns:
      The same shapes, dtypes and shardings.
    """
    kept = [i for i, x in enumerate(leaves) if x.size]
    if len(kept) < len(leaves):
        found = list(leaves)
        parts = [tuple(of[i] for i in kept) for of in (leaves, views, shardings)]
        for i, y in zip(kept, polar_sharded(method, *parts, max_bytes) if kept else []):
            found[i] = y
        return found
    placements = [place(v, x.shape, s) for v, x, s in zip(views, leaves, shardings)]
    specs = [placement.sharding.spec for placement in placements]
    on_each = jax.shard_map(
        partial(polar_on_each, method, placements, max_bytes),
        mesh=shardings[0].mesh,
        in_specs=(specs,),
        out_specs=specs,
        check_vma=False,  # that an all-gather gives all the same is not seen
    )
    taken = [constrain(x, p.sharding) for x, p in zip(leaves, placements)]
    return [constrain(y, s) for y, s in zip(on_each(taken), shardings)]
