"""A wrapper that keeps a state on the parameters' mesh."""

from functools import partial
from typing import Any

import optax

from muon_optax.batching import (
    Shardings,
    check_shardings,
    place_on_mesh,
    replicate_unsharded,
)


def place_state(
    inner: optax.GradientTransformationExtraArgs, shardings: Shardings = None
) -> optax.GradientTransformationExtraArgs:
    """`inner`, with every moment sharded like its parameter and the rest on every device.

    `shardings` supplies what cannot be read from the arrays, as in `scale_by_muon`. Without the
    constraint after a step, XLA would give a moment its gradient's layout.
    """

    def place_moments(state: Any) -> Any:
        place = partial(place_on_mesh, shardings)  # of a whole tree of moments
        return optax.tree_map_params(inner, place, state, is_leaf=lambda _: True)

    def init(params: optax.Params) -> Any:
        check_shardings(shardings, params)
        return replicate_unsharded(params, place_moments(inner.init(params)))

    def update(
        updates: optax.Updates,
        state: Any,
        params: optax.Params | None = None,
        **extra_args: Any,
    ) -> tuple[optax.Updates, Any]:
        updates, state = inner.update(updates, state, params, **extra_args)
        return updates, place_moments(state)

    return optax.GradientTransformationExtraArgs(init, update)
