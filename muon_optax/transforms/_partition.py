"""Two optimizers for one model: one for the matrices, one for all other leaves."""

from __future__ import annotations  # so that help() shows short types

from collections.abc import Callable
from typing import Any

import jax
import optax

from muon_optax._casting import saturating_cast
from muon_optax.batching import Shardings
from muon_optax.dims import (
    FLAX,
    Dims,
    ResolvedDims,
    check_any_matrix,
    resolve_once,
    warn_of_doubts,
)
from muon_optax.transforms._gradients import (
    check_gradients,
    freeze_missing,
    zeros_for_missing,
)
from muon_optax.transforms._place_state import place_state


def partition_matrices(
    matrices: Callable[[Dims], optax.GradientTransformation],
    fallback: optax.GradientTransformation,
    dims: Dims = FLAX,
    *,
    shardings: Shardings = None,
) -> optax.GradientTransformationExtraArgs:
    """Train the matrices by one optimizer and all other leaves by another.

    `muon` is this function with the standard chain. Use it with your own chain.

    Args:
      matrices: A function that gets `dims`, resolved for the whole tree, and returns the
        optimizer of the matrices. Pass this `dims` to every transformation that takes `dims`.
        Without it, a transformation takes every leaf for `[fan_in, fan_out]`.
      fallback: The optimizer of all other leaves.
      dims: Which leaves are matrices, and along which axes; see `muon_optax.dims`.
      shardings: As in `scale_by_muon`. `place_state` places the states of both optimizers.

    Returns:
      `optax.partition` of both optimizers, labelled `"muon"` and `"fallback"`. `init` warns
      about leaves whose label may be wrong. Updates have the parameters' dtype. If a gradient
      is None, the parameter and its state do not change.

    Raises:
      ValueError: At `init` and `update`, if no rule fits a leaf, or if no leaf is a matrix. At
        `update`, if the gradients do not have the parameters' leaves and shapes, or if the
        gradient of a real parameter is complex. The error names the leaf.

    Example:
      >>> import jax.numpy as jnp
      >>> from muon_optax import SVD, scale_by_muon
      >>> tx = partition_matrices(
      ...     lambda dims: optax.chain(scale_by_muon(SVD(), dims=dims), optax.scale(-0.5)),
      ...     fallback=optax.sgd(1.0),
      ... )
      >>> params = {"kernel": jnp.eye(2), "bias": jnp.ones(2)}
      >>> updates, _ = tx.update(params, tx.init(params), params)
      >>> updates["bias"].tolist(), updates["kernel"].diagonal().tolist()
      ([-1.0, -1.0], [-0.5, -0.5])

    Source: `optax.partition`, with labels from `dims`.
    """
    return partition_as("fallback", matrices, fallback, dims, shardings, warn_of_doubts)


def partition_as(
    rest: str,
    matrices: Callable[[Dims], optax.GradientTransformation],
    fallback: optax.GradientTransformation,
    dims: Dims,
    shardings: Shardings = None,
    check: Callable[[ResolvedDims, Any], None] | None = None,
    needs_matrix: bool = True,
) -> optax.GradientTransformationExtraArgs:
    """Partition like `partition_matrices`, with another fallback label and other checks."""

    def partition(tree: Any, check: Any = None) -> optax.GradientTransformationExtraArgs:
        # Resolve before leaves are masked, because rules compare a leaf with other leaves.
        resolved = resolve_once(dims, tree)
        if check is not None:
            check(resolved, tree)
        views = [assignment.view for assignment in resolved.assignments.values()]
        if needs_matrix:
            check_any_matrix(resolved, tree)
        labels = jax.tree.structure(tree).unflatten(["muon" if v else rest for v in views])
        # Pass a function: Optax would call a tree of labels if the model is callable.
        return optax.partition({"muon": matrices(resolved), rest: fallback}, lambda _: labels)

    def init(params: optax.Params) -> Any:
        return partition(params, check).init(params)

    def update(
        updates: optax.Updates,
        state: Any,
        params: optax.Params | None = None,
        **extra_args: Any,
    ) -> tuple[optax.Updates, Any]:
        gradients, missing = zeros_for_missing(updates, params)
        check_gradients(gradients, params)
        inner = partition(gradients)
        found, new_state = inner.update(gradients, state, params, **extra_args)
        like = gradients if params is None else params
        found = jax.tree.map(lambda u, p: saturating_cast(u, p.dtype), found, like)
        return freeze_missing(inner, found, new_state, state, missing)

    return place_state(optax.GradientTransformationExtraArgs(init, update), shardings)
