"""The skipping of updates of single matrices that are not finite."""

from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp
from jax import Array

from muon_optax.batching._resharding import gather_explicit, scatter_like
from muon_optax.dims import MatrixView


def skip_nonfinite(
    blend: Any, mu: Any, old_mu: Any, views: Sequence[MatrixView], skipped: Array
) -> tuple[Any, Any, Array]:
    """Skip every matrix whose blend is not finite. Return blend, momentum and the new count.

    A skipped matrix keeps its momentum. Its blend and its polar factor are zero.
    `blend`, `mu` (after the step) and `old_mu` (before it) are trees with one view per leaf;
    `skipped` is the count so far.
    """
    leaves, treedef = jax.tree.flatten(blend)
    masks = []
    for x, view in zip(leaves, views):
        mask, broken = _find_finite(x, view)
        masks.append(mask)
        skipped = skipped + broken
    finite = treedef.unflatten(masks)
    blend = jax.tree.map(lambda mask, x: jnp.where(mask, x, 0), finite, blend)
    return blend, jax.tree.map(jnp.where, finite, mu, old_mu), skipped


def _find_finite(x: Array, view: MatrixView) -> tuple[Array, Array]:
    """Return for each entry whether its matrix is finite, and how many matrices are not."""
    stacks = view.to_matrices(gather_explicit(jnp.isfinite(x)))
    finite = [stack.all((-2, -1), keepdims=True) for stack in stacks]
    broken = sum((jnp.sum(~f, dtype=jnp.int32) for f in finite), start=jnp.int32(0))
    masks = [jnp.broadcast_to(f, stack.shape) for f, stack in zip(finite, stacks)]
    return scatter_like(view.from_matrices(masks, x.shape), x), broken
