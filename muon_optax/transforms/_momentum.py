"""Momentum: `μ ← β·μ + (1-β)·g`. The result is μ or, with Nesterov, `β·μ + (1-β)·g`.

Sums are computed in float32 or wider. Finite gradients give a finite momentum.
"""

from functools import partial
from typing import Any, Literal, NamedTuple, get_args

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jax import Array
from jax.tree_util import KeyPath
from jax.typing import ArrayLike, DTypeLike

from muon_optax._casting import clip_to_finite, saturating_cast, wide_dtype
from muon_optax._checks import check_choice, check_schedulable, check_start, describe
from muon_optax._leaves import LeafError, path_name
from muon_optax.dims import Dims, matrix_views
from muon_optax.transforms._nonfinite import skip_nonfinite

OnNonfinite = Literal["propagate", "skip"]


class MuonState(NamedTuple):
    """The state of Muon's momentum.

    Attributes:
      count: int32 scalar, the number of steps.
      mu: The momentum, a tree like the parameters.
      skipped: int32 scalar, how often a matrix was skipped because it was not finite; None with
        `on_nonfinite="propagate"`.
    """

    count: Array
    mu: optax.Updates
    skipped: Any = None


def accumulate_momentum(
    beta: ArrayLike | optax.Schedule = 0.95,
    *,
    nesterov: bool = True,
    bias_correction: bool = True,
    heavy_ball: bool = False,
    mu_dtype: DTypeLike | None = None,
    dims: Dims = None,
    on_nonfinite: OnNonfinite = "propagate",
) -> optax.GradientTransformationExtraArgs:
    """Replace gradients by their momentum, in float32 or wider: the first half of Muon.

    The arguments are those of `scale_by_muon`. `dims` is needed only with
    `on_nonfinite="skip"`, to tell the matrices of a leaf apart.
    """
    beta = check_schedulable("beta", beta, "a number in [0, 1)", lambda b: 0 <= b < 1)
    check_choice("on_nonfinite", on_nonfinite, get_args(OnNonfinite))
    if mu_dtype is not None and not _is_real_float(mu_dtype):
        raise ValueError(
            f"mu_dtype={describe(mu_dtype)}; use a real float dtype such as 'bfloat16'"
        )
    skips = on_nonfinite == "skip"

    def init(params: optax.Params) -> MuonState:
        check_start(beta)
        mu = jax.tree.map(lambda p: jnp.zeros_like(p, dtype=_mu_dtype(p, mu_dtype)), params)
        skipped = jnp.zeros([], jnp.int32) if skips else None
        return MuonState(jnp.zeros([], jnp.int32), mu, skipped)

    def update(
        updates: optax.Updates,
        state: Any,
        params: optax.Params | None = None,
        **extra_args: Any,
    ) -> tuple[optax.Updates, MuonState]:
        del params, extra_args
        _check_policy(state, on_nonfinite)
        decay = beta(state.count) if callable(beta) else beta
        gain = 1.0 if heavy_ball else 1 - decay
        count = jnp.asarray(optax.safe_increment(state.count))
        mu = jax.tree.map_with_path(partial(_add, decay, gain), updates, state.mu)
        weights = {
            dtype: _blend_weights(decay, gain, count, nesterov, bias_correction, dtype)
            for dtype in dict.fromkeys(map(_real_dtype, jax.tree.leaves(mu)))
        }
        blend = jax.tree.map(lambda m, g: _blend(weights[_real_dtype(m)], m, g), mu, updates)
        mu = jax.tree.map(lambda m, old: saturating_cast(m, old.dtype), mu, state.mu)
        skipped: Any = state.skipped
        if skips:
            views = matrix_views(dims, updates)
            blend, mu, skipped = skip_nonfinite(blend, mu, state.mu, views, skipped)
        return blend, MuonState(count, mu, skipped)

    return optax.GradientTransformationExtraArgs(init, update)


def _check_policy(state: Any, on_nonfinite: OnNonfinite) -> None:
    """Refuse a state that was made by another optimizer or with another `on_nonfinite`."""
    convert = "convert it once: compat.transfer(state, like=tx.init(params))"
    if not isinstance(state, MuonState):
        found = f"{type(state).__module__}.{type(state).__name__}"
        raise ValueError(f"the state is {found}, not muon_optax.MuonState; {convert}")
    made_with = "propagate" if state.skipped is None else "skip"
    if made_with != on_nonfinite:
        raise ValueError(
            f"the state was made with on_nonfinite={made_with!r}, but the optimizer has "
            f"on_nonfinite={on_nonfinite!r}; {convert}"
        )


def _add(decay: ArrayLike, gain: ArrayLike, path: KeyPath, g: Array, mu: Array) -> Array:
    """Compute `β·μ + gain·g` in float32 or wider, even if μ has a narrower dtype."""
    if g.shape != mu.shape:
        problem = f"its momentum has shape {mu.shape}; make a new state with tx.init(params)"
        raise LeafError(path_name(path), g, problem)
    wide = wide_dtype(g.dtype, mu.dtype)
    decay, gain = (jnp.asarray(weight, jnp.finfo(wide).dtype) for weight in (decay, gain))
    total = decay.astype(wide) * mu.astype(wide) + gain.astype(wide) * g.astype(wide)
    return clip_to_finite(total, wide, jnp.isfinite(g) & jnp.isfinite(mu))


def _blend_weights(
    decay: ArrayLike,
    gain: ArrayLike,
    count: Array,
    nesterov: bool,
    bias_correction: bool,
    dtype: np.dtype,
) -> tuple[Array, Array | None, Array]:
    """Return the weights of μ and g in the momentum's result, and a unit.

    The result is `μ` or `β·μ + gain·g`, with bias correction. The unit is a power of two. Times
    the unit, the weights have a sum of at most 1, so that no term overflows.
    """
    decay, gain = jnp.asarray(decay, dtype), jnp.asarray(gain, dtype)

    def unbiased(weight: Array, steps: Array) -> Array:
        return weight / (1 - decay ** jnp.asarray(steps, dtype)) if bias_correction else weight

    of_mu, of_g = unbiased(jnp.ones([], dtype), count), None
    if nesterov:
        of_mu = unbiased(decay, jnp.asarray(optax.safe_increment(count)))
        of_g = unbiased(gain, count)
    total = of_mu if of_g is None else of_mu + of_g
    unit = jnp.where(total > 1, jnp.ldexp(jnp.ones([], dtype), -jnp.frexp(total)[1]), 1)
    return of_mu, of_g, unit


def _blend(weights: tuple[Array, Array | None, Array], mu: Array, g: Array) -> Array:
    """Return the input of the polar step, a weighted sum of momentum and gradient."""
    of_mu, of_g, unit = weights
    blend = (unit * of_mu).astype(mu.dtype) * mu
    if of_g is not None:
        blend += (unit * of_g).astype(mu.dtype) * g.astype(mu.dtype)
    finite = jnp.isfinite(mu) & jnp.isfinite(g)
    return clip_to_finite(blend / unit.astype(mu.dtype), mu.dtype, finite)


def _real_dtype(x: Array) -> np.dtype:
    return jnp.finfo(x.dtype).dtype


def _mu_dtype(param: Array, mu_dtype: DTypeLike | None) -> DTypeLike:
    """Return the momentum's dtype. For a complex parameter, it is the parameter's dtype."""
    keeps_its_own = mu_dtype is None or jnp.issubdtype(param.dtype, jnp.complexfloating)
    return param.dtype if keeps_its_own else jnp.dtype(mu_dtype)


def _is_real_float(dtype: Any) -> bool:
    try:
        return jnp.issubdtype(dtype, jnp.floating)
    except (TypeError, ValueError):  # not a dtype at all
        return False
