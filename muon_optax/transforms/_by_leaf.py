"""Transformations that act on one leaf at a time, made from a function of a leaf."""

from collections.abc import Callable
from typing import Any

import jax
import optax
from jax import Array

from muon_optax.batching import gather_explicit, scatter_like
from muon_optax.dims import Dims, MatrixView, matrix_views


def transform_leaves(
    update_leaf: Callable[[Array, MatrixView], Array], dims: Dims
) -> optax.GradientTransformationExtraArgs:
    """Make a transformation that replaces each update by `update_leaf(update, view)`."""

    def init(params: optax.Params) -> optax.EmptyState:
        matrix_views(dims, params)
        return optax.EmptyState()

    def update(
        updates: optax.Updates, state: Any, params: Any = None, **extra_args: Any
    ) -> tuple[optax.Updates, Any]:
        del params, extra_args
        leaves, treedef = jax.tree.flatten(updates)
        changed = map(update_leaf, leaves, matrix_views(dims, updates))
        return treedef.unflatten(changed), state

    return optax.GradientTransformationExtraArgs(init, update)


def scale_by_moments(
    state_type: Callable[[Any], Any],
    init_leaf: Callable[[Array, MatrixView], Any],
    scale_leaf: Callable[[Array, Any, MatrixView], tuple[Array, Any]],
    dims: Dims,
) -> optax.GradientTransformationExtraArgs:
    """Make a transformation with moments for every leaf, whose state is `state_type(nu)`.

    `init_leaf(param, view)` returns the initial moments of a leaf.
    `scale_leaf(update, moments, view)` returns the new update and the new moments.
    """

    def init(params: optax.Params) -> Any:
        leaves, treedef = jax.tree.flatten(params)
        return state_type(treedef.unflatten(map(init_leaf, leaves, matrix_views(dims, params))))

    def update(
        updates: optax.Updates, state: Any, params: Any = None, **extra_args: Any
    ) -> tuple[optax.Updates, Any]:
        del params, extra_args
        leaves, treedef = jax.tree.flatten(updates)
        moments = treedef.flatten_up_to(state.nu)
        pairs = [*map(scale_leaf, leaves, moments, matrix_views(dims, updates))]
        scaled, nu = (treedef.unflatten([pair[i] for pair in pairs]) for i in (0, 1))
        return scaled, state_type(nu)

    return optax.GradientTransformationExtraArgs(init, update)


def map_stacks(function: Callable[[Array], Array], x: Array, view: MatrixView) -> Array:
    """Apply `function` to every stack `[batch, fan_in, fan_out]` of a leaf."""
    stacks = [function(stack).astype(x.dtype) for stack in view.to_matrices(gather_explicit(x))]
    return scatter_like(view.from_matrices(stacks, x.shape), x)
