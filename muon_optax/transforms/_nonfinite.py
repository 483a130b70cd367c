"""Knows how matrices that are not finite are left out of a step, each for itself."""

from collections.abc import Sequence
from typing import Any, Literal, get_args

import jax
import jax.numpy as jnp
from jax import Array

from muon_optax.batching import gather_explicit, scatter_like
from muon_optax.dims import MatrixView

OnNonfinite = Literal["propagate", "skip"]


def check_policy(on_nonfinite: str) -> None:
    """Refuse a policy that there is not.

    Args:
      on_nonfinite: What was passed.

    Raises:
      ValueError: If it is none of `OnNonfinite`.
    """
    if on_nonfinite not in get_args(OnNonfinite):
        raise ValueError(f"on_nonfinite={on_nonfinite!r}; use one of {get_args(OnNonfinite)}")


def leave_out(
    blend: Any, mu: Any, old_mu: Any, views: Sequence[MatrixView], skipped: Array | None
) -> tuple[Any, Any, Array]:
    """Zero in place of every matrix to be orthogonalized that is not finite; its old momentum.

    Args:
      blend: What is to be orthogonalized, a tree.
      mu: The momentum after this step.
      old_mu: The momentum before it.
      views: Of each leaf.
      skipped: How many were left out before.

    Returns:
      The blend, the momentum, and how many were left out so far.

    Raises:
      ValueError: If `skipped` is None: the state was made under another policy.
    """
    if skipped is None:
        raise ValueError(
            "this state was made with on_nonfinite='propagate'; carry it over once: "
            "compat.transfer(state, like=tx.init(params))"
        )
    leaves, treedef = jax.tree.flatten(blend)
    found = [_finite(x, view) for x, view in zip(leaves, views)]
    finite = treedef.unflatten([mask for mask, _ in found])
    blend = jax.tree.map(lambda mask, x: jnp.where(mask, x, 0.0), finite, blend)
    mu = jax.tree.map(jnp.where, finite, mu, old_mu)
    return blend, mu, sum((broken for _, broken in found), start=skipped)


def _finite(x: Array, view: MatrixView) -> tuple[Array, Array]:
    """Whether each entry's matrix is finite, and how many are not."""
    stacks = view.to_matrices(gather_explicit(jnp.isfinite(x)))
    finite = [stack.all((-2, -1), keepdims=True) for stack in stacks]
    broken = sum((jnp.sum(~f, dtype=jnp.int32) for f in finite), start=jnp.int32(0))
    spread = [jnp.broadcast_to(f, stack.shape) for f, stack in zip(finite, stacks)]
    return scatter_like(view.from_matrices(spread, x.shape), x), broken
