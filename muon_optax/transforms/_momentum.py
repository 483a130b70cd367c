"""Momentum: `μ ← β·μ + (1-β)·g`, and with Nesterov's step `β·μ + (1-β)·g` once more.

It knows no polar method. Sums are taken in float32 or wider, and finite gradients of any size
give a finite momentum.
"""

from functools import partial
from typing import Any, Literal, NamedTuple, get_args

import jax
import jax.numpy as jnp
import optax
from jax import Array
from jax.tree_util import KeyPath
from jax.typing import ArrayLike, DTypeLike

from muon_optax._casting import clip_to_finite, saturating_cast
from muon_optax._checks import check_choice, check_schedulable
from muon_optax._leaves import LeafError, path_name
from muon_optax.dims import Dims, matrix_views
from muon_optax.transforms._nonfinite import skip_nonfinite

OnNonfinite = Literal["propagate", "skip"]


class MuonState(NamedTuple):
    """The state of the momentum.

    Attributes:
      count: int32 scalar, the steps done.
      mu: The momentum, a tree like the parameters.
      skipped: int32 scalar, the number of matrices skipped so far because they were not finite;
        None under `on_nonfinite="propagate"`.
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
    """Replace gradients by their momentum, in float32 or wider; the first half of Muon.

    The arguments are those of `scale_by_muon`. `dims` is needed under `on_nonfinite="skip"`
    only, to tell the matrices of a leaf apart. A blend beyond the largest number of its dtype
    becomes that number.
    """
    check_schedulable("beta", beta, "a number in [0, 1)", lambda b: 0 <= b < 1)
    check_choice("on_nonfinite", on_nonfinite, get_args(OnNonfinite))
    if mu_dtype is not None and not _is_real_float(mu_dtype):
        raise ValueError(f"mu_dtype={mu_dtype!r}; use a real float dtype such as 'bfloat16'")
    skips = on_nonfinite == "skip"

    def init(params: optax.Params) -> MuonState:
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
        decay = beta(state.count) if callable(beta) else beta
        gain = 1.0 if heavy_ball else 1 - decay
        count = jnp.asarray(optax.safe_increment(state.count))
        mu = jax.tree.map_with_path(partial(_add, decay, gain), updates, state.mu)
        blend = partial(_blend, decay, gain, count, nesterov, bias_correction)
        blend = jax.tree.map(blend, mu, updates)
        mu = jax.tree.map(lambda m, old: saturating_cast(m, old.dtype), mu, state.mu)
        skipped = state.skipped
        if skips:
            views = matrix_views(dims, updates)
            blend, mu, skipped = skip_nonfinite(blend, mu, state.mu, views, skipped)
        return blend, MuonState(count, mu, skipped)

    return optax.GradientTransformationExtraArgs(init, update)


def _add(decay: ArrayLike, gain: ArrayLike, path: KeyPath, g: Array, mu: Array) -> Array:
    """`β·μ + gain·g` in float32 or wider, whatever dtype μ is stored in."""
    if g.shape != mu.shape:
        problem = f"the state has a momentum of shape {mu.shape} for it; use tx.init(params)"
        raise LeafError(path_name(path), g, problem)
    wide = jnp.promote_types(jnp.promote_types(g.dtype, mu.dtype), jnp.float32)
    decay, gain = (jnp.asarray(weight, jnp.finfo(wide).dtype) for weight in (decay, gain))
    total = decay.astype(wide) * mu.astype(wide) + gain.astype(wide) * g.astype(wide)
    return clip_to_finite(total, wide, jnp.isfinite(g) & jnp.isfinite(mu))


def _blend(
    decay: ArrayLike,
    gain: ArrayLike,
    count: Array,
    nesterov: bool,
    bias_correction: bool,
    mu: Array,
    g: Array,
) -> Array:
    """What is orthogonalized: `μ`, or `β·μ + gain·g`; each term divided by its bias."""
    real = jnp.finfo(mu.dtype).dtype

    def weight(factor: ArrayLike, steps: Array) -> Array:
        # In μ's dtype: an integer's power is float64 under jax_enable_x64.
        power = jnp.asarray(decay, real) ** jnp.asarray(steps, real)
        bias = 1 - power if bias_correction else jnp.ones([], real)
        return jnp.asarray(factor, real) / bias

    terms = [(weight(1.0, count), mu)]
    if nesterov:
        ahead = weight(decay, jnp.asarray(optax.safe_increment(count)))
        terms = [(ahead, mu), (weight(gain, count), g.astype(mu.dtype))]
    # Summed with weights of at most 1 in all, so that no term overflows and ∞ - ∞ is never met.
    total = sum((w for w, _ in terms), start=jnp.zeros([], real))
    unit = jnp.where(total > 1, jnp.ldexp(jnp.ones([], real), -jnp.frexp(total)[1]), 1)
    weighted = [(unit * w).astype(mu.dtype) * x for w, x in terms]
    blend = sum(weighted[1:], start=weighted[0]) / unit.astype(mu.dtype)
    return clip_to_finite(blend, mu.dtype, jnp.isfinite(mu) & jnp.isfinite(g))


def _mu_dtype(param: Array, mu_dtype: DTypeLike | None) -> DTypeLike:
    """The momentum's dtype; a complex parameter keeps its own."""
    keeps_its_own = mu_dtype is None or jnp.issubdtype(param.dtype, jnp.complexfloating)
    return param.dtype if keeps_its_own else jnp.dtype(mu_dtype)


def _is_real_float(dtype: Any) -> bool:
    try:
        return jnp.issubdtype(dtype, jnp.floating)
    except TypeError:  # not a dtype at all
        return False
