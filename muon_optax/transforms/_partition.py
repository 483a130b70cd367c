"""Two optimizers for one model: one for its matrices, one for the rest."""

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
    """`optax.partition` into the matrices and the rest, by what `dims` says of a whole tree.

    `muon` is this with one chain for the matrices; pass another chain for another Muon.

    Args:
      matrices: From `dims`, resolved for the whole tree, to the transformation of the matrices;
        pass this `dims` on to every transformation that takes one. Without it a transformation
        reads every leaf as `[fan_in, fan_out]`.
      fallback: The transformation of all other leaves.
      dims: See `muon_optax.dims`.
      shardings: For `place_state` of both states, as in `scale_by_muon`.

    Returns:
      `optax.partition` of the two, labelled `"muon"` and `"fallback"`. `init` warns of leaves
      whose label may be wrong. Updates have the
      parameters' dtype. A parameter whose gradient is None keeps its value in that step, and so
      does its state.

    Raises:
      ValueError: At `init` and `update`, if a leaf has no role, or no leaf is a matrix; at
        `update`, if gradients do not have the parameters' leaves and shapes, or are complex
        where a parameter is real. The error names the leaf's path.

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

    Source: `optax.partition`, by roles in place of labels.
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
    """`partition_matrices` with another label for the rest, and other checks."""

    def partition(tree: Any, check: Any = None) -> optax.GradientTransformationExtraArgs:
        # Resolved before a part is masked, because rules compare a leaf with its neighbours.
        resolved = resolve_once(dims, tree)
        if check is not None:
            check(resolved, tree)
        views = [assignment.view for assignment in resolved.assignments.values()]
        if needs_matrix:
            check_any_matrix(resolved, tree)
        labels = jax.tree.structure(tree).unflatten(["muon" if v else rest for v in views])
        # A function, because a tree of labels may itself be callable, like the model.
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
