"""The polar step, `o = polar(x)` matrix by matrix, and `scale_by_muon`: momentum, then that."""

from __future__ import annotations  # so that help() shows short types

from typing import Any

import jax
import optax
from jax.typing import ArrayLike, DTypeLike

from muon_optax._casting import saturating_cast
from muon_optax._checks import check_integer
from muon_optax.batching import Shardings, choose_map
from muon_optax.dims import Dims, matrix_views
from muon_optax.polar._method import PolarMethod, check_method
from muon_optax.polar._newton_schulz import NewtonSchulz
from muon_optax.transforms._momentum import OnNonfinite, accumulate_momentum
from muon_optax.transforms._place_state import place_state
from muon_optax.transforms._resolve_dims import resolve_dims_once


def scale_by_muon(
    method: PolarMethod = NewtonSchulz(),  # noqa: B008 (frozen)
    beta: ArrayLike | optax.Schedule = 0.95,
    *,
    nesterov: bool = True,
    bias_correction: bool = True,
    heavy_ball: bool = False,
    mu_dtype: DTypeLike | None = None,
    dims: Dims = None,
    max_stack_bytes: int | None = None,
    shardings: Shardings = None,
    on_nonfinite: OnNonfinite = "propagate",
) -> optax.GradientTransformationExtraArgs:
    """Replace a gradient by the polar factor of its momentum, matrix by matrix.

    `μ ← β·μ + (1-β)·g`, then `polar(μ)`, or `polar(β·μ + (1-β)·g)` with Nesterov's step.
    Equal matrices of the whole tree go through the method as one batch.

    Args:
      method: How to orthogonalize: one of `METHODS`, a `NewtonSchulz(...)`, `SVD()`, or any
        object with `.polar(x)`.
      beta: Momentum decay in [0, 1), or a schedule of it by step.
      nesterov: Whether to look one step ahead.
      bias_correction: Divide `μ` by `1 - β^(t+1)` and `g` by `1 - β^t` in Nesterov's blend
        (`μ` by `1 - β^t` without), as `optax.contrib.muon` does. With a scale-invariant method
        it matters only to the blend, in the first steps. Keller Jordan's and torch's Muon have
        none. With a schedule, β is the current value.
      heavy_ball: `μ ← β·μ + g`, and `β·μ + g` for Nesterov's step. As long as β is constant,
        that is 1/(1-β) times the average and has its polar factor. A state from another
        library may need it.
      mu_dtype: The momentum's dtype, for real leaves; None for the parameter's own. The
        average itself is taken in float32 or wider. A number beyond the largest of its dtype
        is stored as the largest.
      dims: Which leaf is a matrix and along which axes; see `muon_optax.dims`. None: every
        leaf is `[fan_in, fan_out]`.
      max_stack_bytes: Upper limit on the bytes passed to the method in one call, with at least
        one matrix a call; None for 16 MiB on a CPU and 256 MiB on an accelerator.
      shardings: How the parameters are sharded over devices: a tree of `NamedSharding`s such
        as `jax.tree.map(lambda p: p.sharding, params)`, a prefix of one, or one for all. Needed
        under `jax.jit` if the mesh's axes are automatic; otherwise read from the arrays.
      on_nonfinite: What happens to a matrix whose gradient or momentum has a NaN or an
        infinity. `"propagate"`: its update and momentum are broken from then on, those of
        other matrices are not. `"skip"`: its update is zero, its momentum keeps its value, and
        `MuonState.skipped` counts it. Each matrix of a leaf is judged by itself.

    Returns:
      A transformation whose updates have the parameters' dtype, or the gradients' where
      `update` gets no parameters. Its state is `(MuonState, EmptyState())`.

    Raises:
      ValueError: If an argument is out of its range; at `init` and `update`, if a leaf is
        not a matrix under `dims`, or not of floats. The error names the leaf's path.

    Example:
      >>> import jax.numpy as jnp
      >>> params = {"w": jnp.zeros((2, 3))}
      >>> grads = {"w": jnp.array([[3.0, 0.0, 0.0], [0.0, 4.0, 0.0]])}
      >>> from muon_optax import SVD
      >>> tx = scale_by_muon(SVD())
      >>> updates, state = tx.update(grads, tx.init(params), params)
      >>> updates["w"].round(4).tolist()
      [[1.0, 0.0, 0.0], [0.0, 1.0, 0.0]]

    Source: Kim & Oh, arXiv 2601.19156, Algorithm 1 (without Nesterov's step and bias
    correction; its `M = μ/(1-β)` is the heavy ball's).
    """

    def chain(dims: Dims) -> optax.GradientTransformationExtraArgs:
        momentum = accumulate_momentum(
            beta,
            nesterov=nesterov,
            bias_correction=bias_correction,
            heavy_ball=heavy_ball,
            mu_dtype=mu_dtype,
            dims=dims,
            on_nonfinite=on_nonfinite,
        )
        polar_step = orthogonalize_updates(method, dims, max_stack_bytes, shardings)
        return optax.chain(place_state(momentum, shardings), polar_step)

    tx = resolve_dims_once(chain, dims)

    def update(
        updates: optax.Updates,
        state: Any,
        params: optax.Params | None = None,
        **extra_args: Any,
    ) -> tuple[optax.Updates, Any]:
        like = updates if params is None else params  # for the dtype of the updates
        return tx.update(updates, state, like, **extra_args)

    return optax.GradientTransformationExtraArgs(tx.init, update)


def orthogonalize_updates(
    method: PolarMethod,
    dims: Dims = None,
    max_stack_bytes: int | None = None,
    shardings: Shardings = None,
) -> optax.GradientTransformationExtraArgs:
    """Replace every matrix by its polar factor; the second half of Muon, without a state.

    The arguments are those of `scale_by_muon`.
    """
    check_method(method)
    if max_stack_bytes is not None:
        allowed = "None or a whole number ≥ 1, in static_args of optax.inject_hyperparams"
        check_integer("max_stack_bytes", max_stack_bytes, 1, allowed)

    def init(params: optax.Params) -> optax.EmptyState:
        matrix_views(dims, params)
        return optax.EmptyState()

    def update(
        updates: optax.Updates,
        state: Any,
        params: optax.Params | None = None,
        **extra_args: Any,
    ) -> tuple[optax.Updates, Any]:
        del extra_args
        leaves, treedef = jax.tree.flatten(updates)
        matrix_map = choose_map(method, updates, shardings, max_stack_bytes)
        polars = treedef.unflatten(matrix_map.map(leaves, matrix_views(dims, updates)))
        like = updates if params is None else params
        return jax.tree.map(lambda o, p: saturating_cast(o, p.dtype), polars, like), state

    return optax.GradientTransformationExtraArgs(init, update)
