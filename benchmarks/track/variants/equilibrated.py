"""MuonEq: every neuron has the same weight in the matrix that is orthogonalized."""

from __future__ import annotations  # so that help() shows short types

from typing import Any

import optax
from jax import Array

from benchmarks.track.variants._matrices import map_matrices
from muon_optax.dims import Dims, matrix_views
from muon_optax.polar._linalg import normalize


def equilibrate_neurons(
    momentum: optax.GradientTransformationExtraArgs, *, dims: Dims = None
) -> optax.GradientTransformationExtraArgs:
    """The same momentum, with every neuron's part divided by its norm before the polar step.

    `polar(D·x)` in place of `polar(x)`, where D divides the weights of each output by their
    norm in x. The momentum itself is not changed. A neuron is a column of the matrix view
    `[fan_in, fan_out]`; PyTorch has it as a row. So this is no polar method: those get
    matrices wide or tall, whichever side is `fan_out`.

    Args:
      momentum: An `accumulate_momentum`, for `orthogonalize_momentum` or `record_updates`.
      dims: Which leaf is a matrix and along which axes; see `muon_optax.dims`.

    Returns:
      A transformation with the state of the momentum. A neuron without gradient stays zero.

    Raises:
      ValueError: If `momentum` is not a transformation; at `init` and `update`, if a leaf is
        not a matrix under `dims`.

    Example:
      >>> import jax.numpy as jnp
      >>> from muon_optax.transforms._momentum import accumulate_momentum
      >>> tx = equilibrate_neurons(accumulate_momentum())
      >>> g = {"w": jnp.diag(jnp.array([1e-20, 4.0]))}
      >>> tx.update(g, tx.init(g))[0]["w"].tolist()
      [[1.0, 0.0], [0.0, 1.0]]

    Source: Chang et al. 2026, arXiv 2603.28254 (MuonEq), the variant R. The authors' code adds
    1e-8 to the squared norm; without it the update does not depend on the scale of the
    gradients. nanochat multiplies by `‖x‖_F/√fan_out`, which a scale-invariant polar method
    does not see, and takes norms below 1e-6 for 1e-6.
    """
    if not isinstance(momentum, optax.GradientTransformation):
        raise ValueError(f"momentum={momentum!r:.80}; use accumulate_momentum(...)")

    def init(params: optax.Params) -> Any:
        matrix_views(dims, params)
        return momentum.init(params)

    def update(
        updates: optax.Updates, state: Any, params: Any = None, **extra_args: Any
    ) -> tuple[optax.Updates, Any]:
        blend, state = momentum.update(updates, state, params, **extra_args)
        return map_matrices(_unit_columns, dims, blend), state

    return optax.GradientTransformationExtraArgs(init, update)


def _unit_columns(x: Array) -> Array:
    return normalize(x, (-2,))[0]
