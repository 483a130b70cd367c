"""Knows how two optimizers share a model: one has the matrices, the other the rest."""

from collections.abc import Callable
from typing import Any

import jax
import optax

from muon_optax.batching import replicate_unsharded
from muon_optax.dims import FLAX, Dims, assign, check_trains
from muon_optax.transforms._gradients import check_gradients, filled, held


def partition_matrices(
    matrices: Callable[[Dims], optax.GradientTransformation],
    fallback: optax.GradientTransformation,
    dims: Dims = FLAX,
) -> optax.GradientTransformationExtraArgs:
    """`optax.partition` into the matrices and the rest, by what `dims` says of a whole tree.

    `muon` is this with a chain of its own; with another chain it is another Muon.

    Args:
      matrices: From `dims`, resolved to a spec for every leaf, to the transformation of the
        matrices: whatever in it asks for `dims` gets these.
      fallback: The transformation of all other leaves.
      dims: See `muon_optax.dims`.

    Returns:
      `optax.partition` of the two, labelled `"muon"` and `"adam"`. A parameter with None for
      a gradient stays as it is in that step, and so does its state.

    Raises:
      ValueError: At `init` and `update`, if a leaf has no role, or no leaf is a matrix; at
        `update`, if gradients are not of the parameters' leaves and shapes, or complex where
        these are real. The leaf's path is named.

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
    """

    def on(tree: Any) -> optax.GradientTransformationExtraArgs:
        # Resolved before a part is masked, whose neighbours a guess is checked against.
        assignments = assign(dims, tree)
        check_trains([assignment.view for assignment in assignments])
        labels = ["muon" if assignment.view else "adam" for assignment in assignments]
        specs = {path: view and view.spec for path, view, _ in assignments}
        return optax.partition(
            {"muon": matrices(specs), "adam": fallback},
            jax.tree.structure(tree).unflatten(labels),
        )

    def init(params: optax.Params) -> Any:
        return replicate_unsharded(params, on(params).init(params))

    def update(
        updates: optax.Updates,
        state: Any,
        params: optax.Params | None = None,
        **extra_args: Any,
    ) -> tuple[optax.Updates, Any]:
        updates, absent = filled(updates, params)
        check_gradients(updates, params)
        found, after = on(updates).update(updates, state, params, **extra_args)
        return held(found, after, state, params, absent)

    return optax.GradientTransformationExtraArgs(init, update)
