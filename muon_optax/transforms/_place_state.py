"""A wrapper that keeps the state of an optimizer on the parameters' mesh."""

from __future__ import annotations  # so that help() shows short types

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import optax
from jax import Array
from jax.tree_util import KeyPath

from muon_optax._leaves import leaves_by_path, path_name, path_prefixes
from muon_optax.batching import (
    Shardings,
    check_shardings,
    constrain,
    everywhere,
    infer_shardings,
    is_traced,
    put,
    sharding_of_moment,
)

Place = Callable[[Array, Any], Array]  # gives an array a sharding


def place_state(
    inner: optax.GradientTransformation, shardings: Shardings = None
) -> optax.GradientTransformationExtraArgs:
    """Keep the state of any optimizer on the parameters' mesh, from `init` on.

    Moments are sharded like their parameters; counters, rates and records are on every device.
    Without this function the second step would compile again, because `init` makes counters on
    one device.

    `muon`, `scale_by_muon` and `partition_matrices` call this function themselves. Call it for
    wrappers of them, such as `optax.inject_hyperparams`, `optax.MultiSteps` or `optax.chain`.

    Args:
      inner: Any optimizer whose moments `optax.tree_map_params` finds.
      shardings: As in `scale_by_muon`.

    Returns:
      A transformation with the same updates and the same state. On one device it does nothing.

    Raises:
      ValueError: At `init` and `update`, if `shardings` does not fit the parameters. At `init`,
        if it contradicts the arrays' shardings. The error names the leaf.

    Example:
      >>> from jax.sharding import AxisType, NamedSharding, PartitionSpec
      >>> from muon_optax import muon
      >>> mesh = jax.make_mesh((jax.device_count(),), ("data",), (AxisType.Auto,))
      >>> on_mesh = NamedSharding(mesh, PartitionSpec())
      >>> params = jax.device_put({"kernel": jnp.ones((4, 4))}, on_mesh)
      >>> tx = optax.MultiSteps(muon(0.02, shardings=on_mesh), 4)
      >>> tx = place_state(tx.gradient_transformation(), on_mesh)
      >>> tx.init(params).mini_step.sharding.is_fully_replicated
      True
    """
    inner = optax.with_extra_args_support(inner)

    def place(place_one: Place, state: Any, params: Any) -> Any:
        found = infer_shardings(shardings, params)
        if found is None:
            return state
        leaves = leaves_by_path(params)
        by_path = {name: (leaves[name].shape, s) for name, s in zip(leaves, found)}

        def place_moment(path: KeyPath, x: Any) -> Any:
            prefixes = path_prefixes(path_name(path))
            own = next((by_path[prefix] for prefix in prefixes if prefix in by_path), None)
            return place_one(x, sharding_of_moment(x, *own)) if own and _is_array(x) else x

        def place_other(x: Any) -> Any:
            return place_one(x, everywhere(found[0], x)) if _is_array(x) else x

        return optax.tree_map_params(
            inner,
            lambda moments: jax.tree.map_with_path(place_moment, moments),
            state,
            transform_non_params=lambda others: jax.tree.map(place_other, others),
            is_leaf=lambda _: True,
        )

    def init(params: optax.Params) -> Any:
        check_shardings(shardings, params)
        traced = any(map(is_traced, jax.tree.leaves(params)))
        return place(constrain if traced else put, inner.init(params), params)

    def update(
        updates: optax.Updates,
        state: Any,
        params: optax.Params | None = None,
        **extra_args: Any,
    ) -> tuple[optax.Updates, Any]:
        found, state = inner.update(updates, state, params, **extra_args)
        return found, place(constrain, state, updates if params is None else params)

    return optax.GradientTransformationExtraArgs(init, update)


def _is_array(x: Any) -> bool:
    """Return whether a leaf is an array of numbers. Arrays of random keys are not moved."""
    return isinstance(x, Array) and not jnp.issubdtype(x.dtype, jax.dtypes.extended)
