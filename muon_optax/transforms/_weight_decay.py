"""Weight decay in three forms: decoupled, cautious, and independent of the learning rate.

With learning rate η and update u, decoupled decay is `W ← W - η·(u + λ·W)`.
"""

from __future__ import annotations  # so that help() shows short types

from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jax import Array
from jax.typing import ArrayLike

from muon_optax._casting import clip_to_finite, wide_dtype
from muon_optax._checks import (
    check_schedulable,
    check_start,
    describe,
    is_function,
    suggest_static,
)

_Mask = Any | Callable[[optax.Params], Any] | None


class DecayState(NamedTuple):
    """The state of a scheduled decay; a constant decay has an empty state.

    Attributes:
      count: int32 scalar, the number of steps.
    """

    count: Array


def add_decayed_weights(
    weight_decay: optax.ScalarOrSchedule, mask: _Mask = None
) -> optax.GradientTransformationExtraArgs:
    """Add weight decay, `u ← u + λ·W`, without two bugs of `optax.add_decayed_weights`.

    In Optax 0.2.6, a schedule stays at step 0, and a traced λ widens bfloat16 updates to
    float32. Chain this transformation before `optax.scale_by_learning_rate`.

    >>> tx = add_decayed_weights(0.1)
    >>> w, u = jnp.array([10.0, -10.0]), jnp.array([1.0, 1.0])
    >>> tx.update(u, tx.init(w), w)[0].tolist()
    [2.0, 0.0]
    """
    return _decay_with(lambda u, w, decay: u + decay * w, weight_decay, mask)


def decay_unless_zero(
    weight_decay: optax.ScalarOrSchedule, mask: _Mask = None
) -> optax.GradientTransformation:
    """Add decayed weights. If λ is 0, return `optax.identity`, which needs no parameters."""
    scheduled = callable(weight_decay) or isinstance(weight_decay, jax.Array)
    zero = not scheduled and weight_decay == 0
    return optax.identity() if zero else add_decayed_weights(weight_decay, mask)


def add_cautious_weight_decay(
    weight_decay: optax.ScalarOrSchedule, mask: _Mask = None
) -> optax.GradientTransformationExtraArgs:
    """Decay only those entries of a weight that the update shrinks.

    `u ← u + λ·1[u⊙W ≥ 0]⊙W`. Chain it before `optax.scale_by_learning_rate`:
    `W ← W - η·(u + λ·1[u⊙W ≥ 0]⊙W)`. For complex entries `u⊙W` is the real part of
    `conj(u)⊙W`.

    Args:
      weight_decay: λ, a number ≥ 0 or a schedule.
      mask: Which leaves decay: a tree of booleans, or a function from parameters to such a
        tree; None means all. Under `optax.inject_hyperparams`, put a function in `static_args`.

    Returns:
      A transformation whose updates keep their dtype. Sums are computed in float32 or wider.

    Raises:
      ValueError: If an argument is out of its range, or if `update` gets no parameters.

    Example:
      >>> tx = add_cautious_weight_decay(0.1)
      >>> w, u = jnp.array([10.0, -10.0, 10.0]), jnp.array([1.0, 1.0, 0.0])
      >>> tx.update(u, tx.init(w), w)[0].tolist()
      [2.0, 1.0, 1.0]

    Source: Chen et al. 2025, arXiv 2510.12402, Algorithm 1.
    """

    def decayed(u: Array, w: Array, decay: ArrayLike) -> Array:
        shrinks = jnp.real(jnp.conj(u) * w) >= 0
        return u + jnp.where(shrinks, decay * w, 0)

    return _decay_with(decayed, weight_decay, mask)


def add_independent_weight_decay(
    weight_decay: optax.ScalarOrSchedule, mask: _Mask = None
) -> optax.GradientTransformationExtraArgs:
    """Decay weights by a fraction that does not depend on the learning rate.

    `u ← u - λ·W`. Chain it after `optax.scale_by_learning_rate`: `W ← W - η·u - λ·W`. For the
    form of Loshchilov & Hutter pass `lambda t: λ * s(t)`, where s(t) ≤ 1 is the learning rate
    divided by its peak.

    Args:
      weight_decay: λ, a number ≥ 0 or a schedule. It is not multiplied by the learning rate:
        if you use λ = 0.1 and η = 1e-3 in `optax.adamw`, pass 1e-4 here.
      mask: Which leaves decay: a tree of booleans, or a function from parameters to such a
        tree; None means all. Under `optax.inject_hyperparams`, put a function in `static_args`.

    Returns:
      A transformation whose updates keep their dtype. Sums are computed in float32 or wider.

    Raises:
      ValueError: If an argument is out of its range, or if `update` gets no parameters.

    Example:
      >>> tx = optax.chain(optax.sgd(0.5), add_independent_weight_decay(0.25))
      >>> w, g = jnp.array([8.0, -8.0]), jnp.array([1.0, 1.0])
      >>> tx.update(g, tx.init(w), w)[0].tolist()
      [-2.5, 1.5]

    Source: Loshchilov & Hutter 2019, arXiv 1711.05101, Algorithm 2; Wortsman et al. 2023,
    arXiv 2309.14322, Section 3.2.2.
    """
    return _decay_with(lambda u, w, decay: u - decay * w, weight_decay, mask)


def check_mask(name: str, mask: _Mask) -> None:
    """Refuse anything but None, a tree of booleans or a function."""
    if mask is None or is_function(mask):
        return
    leaves = jax.tree.leaves(mask)
    is_bare = bool(leaves) and leaves[0] is mask
    if is_bare or not all(isinstance(leaf, bool | np.bool_) for leaf in leaves):
        static = suggest_static(name, mask, jax.Array | bool)
        raise ValueError(
            f"{name}={describe(mask)}; use a tree of booleans, a function from parameters to "
            f"such a tree, or None for all{static}"
        )


def _decay_with(
    decayed: Callable[[Array, Array, ArrayLike], Array],
    weight_decay: optax.ScalarOrSchedule,
    mask: _Mask,
) -> optax.GradientTransformationExtraArgs:
    """Make a transformation that replaces every `u` by `decayed(u, W, λ)`."""
    number = "a number ≥ 0"
    weight_decay = check_schedulable("weight_decay", weight_decay, number, lambda d: d >= 0)
    check_mask("mask", mask)

    def init(params: optax.Params) -> Any:
        del params
        check_start(weight_decay)
        scheduled = callable(weight_decay)
        return DecayState(jnp.zeros([], jnp.int32)) if scheduled else optax.EmptyState()

    def update(
        updates: optax.Updates,
        state: Any,
        params: optax.Params | None = None,
        **extra_args: Any,
    ) -> tuple[optax.Updates, Any]:
        del extra_args
        if params is None:
            raise ValueError(
                "params=None, but weight decay needs the parameters; use "
                "tx.update(grads, state, params)"
            )
        decay = weight_decay
        if callable(decay):
            decay = decay(state.count)
            state = DecayState(jnp.asarray(optax.safe_increment(state.count)))
        return jax.tree.map(partial(_in_wide_dtype, decayed, decay), updates, params), state

    tx = optax.GradientTransformationExtraArgs(init, update)
    if mask is None:
        return tx
    # Pass a function: Optax would call a tree of booleans if the model is callable.
    return optax.masked(tx, mask if is_function(mask) else lambda _: mask)


def _in_wide_dtype(
    decayed: Callable[[Array, Array, ArrayLike], Array], decay: ArrayLike, u: Array, w: Array
) -> Array:
    """Compute `decayed(u, W, λ)` in float32 or wider, and round it to the dtype of u."""
    dtype = wide_dtype(u.dtype, w.dtype)
    decay = jnp.asarray(decay, jnp.finfo(dtype).dtype).astype(dtype)
    found = decayed(u.astype(dtype), w.astype(dtype), decay)
    finite = jnp.isfinite(u) & jnp.isfinite(w)
    return clip_to_finite(found, u.dtype, finite).astype(u.dtype)
