"""Knows one step of Muon: momentum, then the polar factor, then a factor for the shape."""

import itertools
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax
from jax import Array
from jax.typing import ArrayLike, DTypeLike

from muon_optax._casting import clip_to_finite, saturating_cast
from muon_optax._checks import check_number, check_schedulable
from muon_optax.batching import (
    Shardings,
    check_shardings,
    infer_shardings,
    place_on_mesh,
    polar_sharded,
    replicate_unsharded,
)
from muon_optax.dims import Dims, MatrixView, matrix_views
from muon_optax.polar import (
    NewtonSchulz,
    PolarMethod,
    check_method,
    is_scale_invariant,
    polar_all,
)
from muon_optax.transforms._momentum import Momentum
from muon_optax.transforms._nonfinite import OnNonfinite, check_policy, leave_out
from muon_optax.transforms._shape import shape_factor


class MuonState(NamedTuple):
    """What changes each step of `scale_by_muon`, and nothing else.

    Attributes:
      count: int32 scalar, the steps done.
      mu: The momentum, a tree like the parameters.
      skipped: int32 scalar, the matrices left out of a step so far for not being finite; None
        under `on_nonfinite="propagate"`.
    """

    count: Array
    mu: optax.Updates
    skipped: Any = None


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
    Matrices with equal sides, transposed or not, go through the method as one batch across
    the whole tree, in slices that fit into `max_stack_bytes`.

    Args:
      method: How to orthogonalize: one of `METHODS`, a `NewtonSchulz(...)`, `SVD()`, or any
        hashable object with `.polar(x)`.
      beta: Momentum decay in [0, 1), or a schedule of it by step.
      nesterov: Whether to look one step ahead.
      bias_correction: Divide `μ` by `1 - β^(t+1)` and `g` by `1 - β^t` in Nesterov's blend
        (`μ` by `1 - β^t` without), as `optax.contrib.muon` does. With a normalisation that
        is scale-invariant it matters only to the blend, in the first steps. Keller
        Jordan's and torch's Muon have none. With a schedule, β stands for today's value.
      heavy_ball: `μ ← β·μ + g`, and `β·μ + g` for Nesterov's step. As long as β stays, that is
        1/(1-β) times the average and has its polar factor; a state from elsewhere may need it.
      mu_dtype: The momentum's dtype, for real leaves; None for the parameter's own. The
        average itself is taken in float32 or wider. A number beyond the largest of its dtype
        is kept as that.
      dims: Which leaf is a matrix and along which axes; see `muon_optax.dims`. None: every
        leaf is `[fan_in, fan_out]`.
      max_stack_bytes: The most that the method gets at once, but always one matrix at least;
        None for 16 MiB on a CPU and 256 MiB on an accelerator.
      shardings: How the parameters lie on many devices, a tree of `NamedSharding`s such as
        `jax.tree.map(lambda p: p.sharding, params)`, a prefix of one, or one for all. Needed
        under `jax.jit` if the mesh's axes are automatic; else it is read from the arrays.
      on_nonfinite: What a matrix does whose gradient or momentum has a NaN or an infinity.
        `"propagate"`: its update and momentum are broken from then on, those of no other
        matrix. `"skip"`: its update is zero, its momentum stays as it was, and
        `MuonState.skipped` counts it. Each matrix of a leaf is judged by itself.

    Returns:
      A transformation whose updates have the parameters' dtype, or the gradients' where
      `update` gets no parameters. Its state is a `MuonState`.

    Raises:
      ValueError: If an argument is out of its range; at `init` and `update`, if a leaf is
        no matrix under `dims`, or not of floats. The leaf's path is named.

    Example:
      >>> params = {"w": jnp.zeros((2, 3))}
      >>> grads = {"w": jnp.array([[3.0, 0.0, 0.0], [0.0, 4.0, 0.0]])}
      >>> from muon_optax import SVD
      >>> tx = scale_by_muon(SVD())
      >>> updates, state = tx.update(grads, tx.init(params), params)
      >>> updates["w"].round(4).tolist()
      [[1.0, 0.0, 0.0], [0.0, 1.0, 0.0]]

    Source: Kim & Oh, arXiv 2601.19156, Algorithm 1 (which has neither Nesterov's step nor
    bias correction, and whose `M = μ/(1-β)` is the heavy ball's).
    """
    _check_arguments(method, beta, mu_dtype, max_stack_bytes, on_nonfinite)
    skips = on_nonfinite == "skip"
    at_any_scale = is_scale_invariant(method)

    def init(params: optax.Params) -> MuonState:
        matrix_views(dims, params)
        check_shardings(shardings, params)
        mu = jax.tree.map(lambda p: jnp.zeros_like(p, dtype=_mu_dtype(p, mu_dtype)), params)
        mu = place_on_mesh(shardings, mu)
        skipped = jnp.zeros([], jnp.int32) if skips else None
        return replicate_unsharded(params, MuonState(jnp.zeros([], jnp.int32), mu, skipped))

    def update(
        updates: optax.Updates,
        state: Any,
        params: optax.Params | None = None,
        **extra_args: Any,
    ) -> tuple[optax.Updates, MuonState]:
        del extra_args
        views = matrix_views(dims, updates)
        decay = beta(state.count) if callable(beta) else beta
        count = jnp.asarray(optax.safe_increment(state.count))
        gain = 1.0 if heavy_ball else 1 - decay
        momentum = Momentum(decay, gain, nesterov, bias_correction, at_any_scale)
        mu = jax.tree.map_with_path(momentum.next, updates, state.mu)
        blend = jax.tree.map(partial(momentum.blend, count), mu, updates)
        mu = jax.tree.map(lambda m, old: saturating_cast(m, old.dtype), mu, state.mu)
        skipped = state.skipped
        if skips:
            blend, mu, skipped = leave_out(blend, mu, state.mu, views, skipped)
        direction = _polar(method, blend, views, max_stack_bytes, shardings)
        like = updates if params is None else params
        updates = jax.tree.map(lambda o, p: saturating_cast(o, p.dtype), direction, like)
        mu = place_on_mesh(shardings, mu)  # or XLA gives it the gradient's layout
        return updates, MuonState(count, mu, skipped)

    return optax.GradientTransformationExtraArgs(init, update)


def scale_by_shape(
    rule: str = "jordan", *, dims: Dims = None
) -> optax.GradientTransformationExtraArgs:
    """Multiply every matrix by a factor of its `fan_in` and `fan_out`.

    `"jordan"`: `√max(1, out/in)`. `"adam_rms"`: `0.2·√max(in, out)`, which gives an
    orthogonal update the RMS of AdamW's. `"rms_to_rms"`: `√(out/in)`. `"none"`: 1.

    Args:
      rule: A name in `scaling.SHAPE_SCALINGS`, with its source there.
      dims: Which leaf is a matrix and along which axes; see `muon_optax.dims`.

    Returns:
      A stateless transformation; a number beyond the largest of its dtype becomes that.

    Raises:
      ValueError: If the rule is unknown; at `init` and `update`, if a leaf is no matrix
        under `dims`.

    Example:
      >>> tx = scale_by_shape("jordan")
      >>> updates = {"w": jnp.ones((1, 4))}
      >>> tx.update(updates, tx.init(updates))[0]["w"].tolist()
      [[2.0, 2.0, 2.0, 2.0]]
    """
    shape_factor(rule, 1, 1)

    def init(params: optax.Params) -> optax.EmptyState:
        matrix_views(dims, params)
        return optax.EmptyState()

    def update(
        updates: optax.Updates,
        state: Any,
        params: optax.Params | None = None,
        **extra_args: Any,
    ) -> tuple[optax.Updates, Any]:
        del params, extra_args
        leaves, treedef = jax.tree.flatten(updates)
        scaled = [
            _scaled(rule, x, view) for x, view in zip(leaves, matrix_views(dims, updates))
        ]
        return treedef.unflatten(scaled), state

    return optax.GradientTransformationExtraArgs(init, update)


def _check_arguments(
    method: PolarMethod,
    beta: ArrayLike | optax.Schedule,
    mu_dtype: DTypeLike | None,
    max_stack_bytes: int | None,
    on_nonfinite: str,
) -> None:
    check_method(method)
    check_schedulable("beta", beta, "a number in [0, 1)", lambda b: 0 <= b < 1)
    if mu_dtype is not None and not _is_real_float(mu_dtype):
        raise ValueError(f"mu_dtype={mu_dtype!r}; use a real float dtype such as 'bfloat16'")
    if max_stack_bytes is not None:
        allowed = "None or a number ≥ 1; optax.inject_hyperparams takes it in static_args"
        check_number("max_stack_bytes", max_stack_bytes, allowed, lambda b: b >= 1)
    check_policy(on_nonfinite)


def _is_real_float(dtype: Any) -> bool:
    try:
        return jnp.issubdtype(dtype, jnp.floating)
    except TypeError:  # what is no dtype at all
        return False


def _mu_dtype(param: Array, mu_dtype: DTypeLike | None) -> DTypeLike:
    keeps_its_own = mu_dtype is None or jnp.issubdtype(param.dtype, jnp.complexfloating)
    return param.dtype if keeps_its_own else jnp.dtype(mu_dtype)


def _polar(
    method: PolarMethod,
    tree: optax.Updates,
    views: list[MatrixView],
    max_stack_bytes: int | None,
    shardings: Shardings,
) -> optax.Updates:
    leaves, treedef = jax.tree.flatten(tree)
    on_mesh = infer_shardings(shardings, tree)
    if on_mesh:
        return treedef.unflatten(
            polar_sharded(method, leaves, tuple(views), on_mesh, max_stack_bytes)
        )
    stacks = [stack for x, view in zip(leaves, views) for stack in view.to_matrices(x)]
    polars = iter(polar_all(method, stacks, max_stack_bytes))
    return treedef.unflatten(
        [
            view.from_matrices(list(itertools.islice(polars, len(view.sides))), x.shape)
            for x, view in zip(leaves, views)
        ]
    )


def _scaled(rule: str, x: Array, view: MatrixView) -> Array:
    factors = [shape_factor(rule, fan_in, fan_out) for _, fan_in, fan_out in view.sides]
    if len(set(factors)) == 1 or x.size == 0:
        factor = factors[0]
    else:
        factor = jnp.asarray(view.of_parts(factors, x.shape), x.dtype)
    return clip_to_finite(factor * x, x.dtype, jnp.isfinite(x))
