"""QK-clip: query and key weights shrink so that attention logits stay small.

Head h's logits are multiplied by `γ_h = min(1, threshold / max_logits_h)`.
"""

from __future__ import annotations  # so that help() shows short types

import jax.numpy as jnp
from jax import Array
from jax.typing import ArrayLike

from muon_optax._casting import wide_dtype
from muon_optax._checks import check_number
from muon_optax._leaves import LeafError, check_float_array


def clip_factors(max_logits: ArrayLike, threshold: float = 100.0) -> Array:
    """The factor of every head's logits: `γ = min(1, threshold / max_logits)`.

    Args:
      max_logits: The largest attention logit of every query head, of any shape.
      threshold: The upper limit on a logit, a number > 0.

    Returns:
      γ in float32, of the same shape. 1 where the largest logit is not positive, infinite or
      NaN: then it says nothing about the weights, which γ must not turn into NaN.

    Raises:
      ValueError: If `threshold` is not a number > 0.

    Example:
      >>> clip_factors(jnp.array([400.0, 50.0, -3.0, jnp.inf]), threshold=100.0).tolist()
      [0.25, 1.0, 1.0, 1.0]
    """
    check_number("threshold", threshold, "a number > 0", lambda t: t > 0)
    logits = jnp.asarray(max_logits, jnp.float32)
    clipped = jnp.isfinite(logits) & (logits > threshold)
    # An underflow to 0 would be 0/0 in qk_clip.
    factors = jnp.maximum(threshold / logits, jnp.finfo(jnp.float32).tiny)
    return jnp.where(clipped, factors, 1.0)


def qk_clip(
    query: Array,
    key: Array,
    max_logits: ArrayLike,
    threshold: float = 100.0,
    *,
    head_axis: int = -2,
) -> tuple[Array, Array]:
    """Shrink query and key weights so that no head's logits exceed a threshold.

    Call it after the optimizer's step with the largest logits of its batch. Head h's logits are
    scaled by exactly `γ_h = min(1, threshold / max_logits_h)`: query and key by √γ_h each. In
    grouped-query attention consecutive query heads share a key head. That takes √γ_min of its
    group, and each query head γ_h/√γ_min, so that heads below the threshold keep their logits.

    Logits are the softmax's inputs, scaled by 1/√depth, without masked pairs. If projections
    have biases, clip these in a second call: logits scale by γ only if the whole query and the
    whole key do. Normalized queries and keys need no clipping. Reshape a fused kernel
    `[d, heads·depth]` to heads first.

    Multi-head latent attention: `qk_clip` on the parts without rotary embedding, the query's
    rotary part times `clip_factors(max_logits, threshold)`, the rotary key, which all heads
    share, left as it is.

    Args:
      query: Weights `[*batch, ..., heads, ...]`, such as a kernel `[d, heads, depth]`.
      key: Weights `[*batch, ..., key_heads, ...]`; `key_heads` divides `heads`.
      max_logits: The largest logit of every query head, `[*batch, heads]`. All its axes but
        the last are the weights' first ones: `[layers, heads]` for a scanned kernel
        `[layers, d, heads, depth]`. A value that is not positive or not finite leaves its head
        unchanged.
      threshold: The upper limit on a logit, a number > 0.
      head_axis: The axis of heads, in both weights.

    Returns:
      Query and key with their dtypes; a head with γ = 1 in its whole group is bit for bit
      the same.

    Raises:
      ValueError: If `threshold` is not a number > 0.
      LeafError: If a weight is not of floats, or shapes do not fit; a `ValueError` too.

    Example:
      >>> query, key = jnp.ones((8, 2, 4)), jnp.ones((8, 2, 4))
      >>> query, key = qk_clip(query, key, jnp.array([400.0, 50.0]), threshold=100.0)
      >>> query[0, :, 0].tolist(), key[0, :, 0].tolist()
      ([0.5, 1.0], [0.5, 1.0])

    Source: Kimi Team 2025, arXiv 2507.20534, Section 2.1; the split within a group of
    queries is ours.
    """
    factors = clip_factors(max_logits, threshold)
    heads, key_heads = (
        _count_heads(name, weight, factors.shape, head_axis)
        for name, weight in (("query", query), ("key", key))
    )
    if heads != factors.shape[-1]:
        raise LeafError(
            "query",
            query,
            f"{heads} heads along head_axis={head_axis}, but max_logits has shape "
            f"{factors.shape}; its last axis is one number per query head",
        )
    if key_heads == 0 or heads % key_heads:
        raise LeafError(
            "key",
            key,
            f"{key_heads} heads along head_axis={head_axis} cannot be shared by {heads} query "
            "heads; use a divisor of them",
        )
    grouped = factors.reshape(*factors.shape[:-1], key_heads, heads // key_heads)
    shared = jnp.sqrt(grouped.min(axis=-1, keepdims=True))
    own = (grouped / shared).reshape(factors.shape)
    return _scale_heads(query, own, head_axis), _scale_heads(key, shared[..., 0], head_axis)


def _count_heads(name: str, weight: Array, logits: tuple[int, ...], head_axis: int) -> int:
    """How many heads a weight has, once its axes are known to fit `max_logits`."""
    check_float_array(name, weight)
    batch = logits[:-1]
    if not logits or weight.shape[: len(batch)] != batch:
        raise LeafError(
            name,
            weight,
            f"max_logits has shape {logits}; use [*batch, heads], batch being the weight's "
            "first axes, or none for one number per head",
        )
    if not -weight.ndim <= head_axis < weight.ndim or head_axis % weight.ndim < len(batch):
        raise LeafError(
            name,
            weight,
            f"head_axis={head_axis}; use an axis of the weight that is not among the "
            f"{len(batch)} batch axes of max_logits",
        )
    return weight.shape[head_axis]


def _scale_heads(weight: Array, factors: Array, head_axis: int) -> Array:
    """The weight times one factor per head, in float32 or wider, in its own dtype."""
    shape = [*factors.shape[:-1], *[1] * (weight.ndim - factors.ndim + 1)]
    shape[head_axis] = factors.shape[-1]
    wide = wide_dtype(weight.dtype)
    scaled = weight.astype(wide) * factors.reshape(shape).astype(wide)
    return scaled.astype(weight.dtype)
