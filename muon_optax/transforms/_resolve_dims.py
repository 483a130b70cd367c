"""The resolution of `dims`, once per call for all transformations in a chain."""

from collections.abc import Callable
from typing import Any

import optax

from muon_optax.dims import Dims, resolve_once


def resolve_dims_once(
    make: Callable[[Dims], optax.GradientTransformationExtraArgs], dims: Dims
) -> optax.GradientTransformationExtraArgs:
    """Return `make(dims)`, but resolve `dims` only once in each call of `init` and `update`."""
    make(dims)  # raises here, and not at init, if an argument is out of its range

    def init(params: optax.Params) -> Any:
        return make(resolve_once(dims, params)).init(params)

    def update(
        updates: optax.Updates,
        state: Any,
        params: optax.Params | None = None,
        **extra_args: Any,
    ) -> tuple[optax.Updates, Any]:
        inner = make(resolve_once(dims, updates))
        return inner.update(updates, state, params, **extra_args)

    return optax.GradientTransformationExtraArgs(init, update)
