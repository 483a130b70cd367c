"""QK-clip: shrink query and key weights so that attention logits stay small."""

from __future__ import annotations  # so that help() shows short types

import jax.numpy as jnp
from jax import Array
from jax.typing import ArrayLike

from muon_optax._casting import wide_dtype
from muon_optax._checks import check_number
from muon_optax._leaves import LeafError, check_float_array


def clip_factors(max_logits: ArrayLike, threshold: float = 100.0) -> Array:
    """Return the factor for each head's logits: `γ = min(1, threshold / max_logits)`.

    Args:
      max_logits: The largest attention logit of every query head, as an array of any shape.
      threshold: The upper limit on a logit, a number > 0.

    Returns:
      γ in float32, of the same shape; 1 where the largest logit is not positive or not finite.

    Raises:
      ValueError: If `threshold` is not a number > 0.

    Example:
      >>> clip_factors(jnp.array([400.0, 50.0, -3.0, jnp.inf]), threshold=100.0).tolist()
      [0.25, 1.0, 1.0, 1.0]
    """
    check_number("threshold", threshold, "a number > 0", lambda t: t > 0)
    logits = jnp.asarray(max_logits, jnp.float32)
    clipped = jnp.isfinite(logits) & (logits > threshold)
    # A factor that underflows to 0 would become 0/0 in qk_clip.
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

    Call this function after the optimizer's step, with the largest logits of the step's batch.
    Logits are the inputs of the softmax, scaled by 1/√depth, without masked pairs. The logits
    of head h are scaled by `γ_h = min(1, threshold / max_logits_h)`, because its query and key
    weights are each scaled by √γ_h. In grouped-query attention, consecutive query heads share a
    key head. If γ_min is the smallest γ of such a group, the key head is scaled by √γ_min, and
    each query head by γ_h/√γ_min.

    If the projections have biases, clip the biases in a second call. Reshape a fused kernel
    `[d, heads·depth]` to `[d, heads, depth]` first. Normalized queries and keys need no
    clipping.

    In multi-head latent attention, call `qk_clip` on the parts without rotary embedding,
    multiply the query's rotary part by γ_h, and leave the shared rotary key as it is.

    Args:
      query: Weights `[*batch, ..., heads, ...]`, such as a kernel `[d, heads, depth]`.
      key: Weights `[*batch, ..., key_heads, ...]`; `key_heads` divides `heads`.
      max_logits: The largest logit of every query head, `[*batch, heads]`. The batch axes are
        the first axes of the weights: `[layers, heads]` for a scanned kernel
        `[layers, d, heads, depth]`. A value that is not positive or not finite leaves its head
        unchanged.
      threshold: The upper limit on a logit, a number > 0.
      head_axis: The axis of heads in both weights.

    Returns:
      Query and key in their dtypes. A group in which all γ are 1 does not change.

    Raises:
      ValueError: If `threshold` is not a number > 0, if a weight is not an array of floats, or
        if the shapes do not fit.

    Example:
      >>> query, key = jnp.ones((8, 2, 4)), jnp.ones((8, 2, 4))
      >>> query, key = qk_clip(query, key, jnp.array([400.0, 50.0]), threshold=100.0)
      >>> query[0, :, 0].tolist(), key[0, :, 0].tolist()
      ([0.5, 1.0], [0.5, 1.0])

    Source: Kimi Team 2025, arXiv 2507.20534, Section 2.1. The split within a group is our own.
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
            f"{factors.shape}; its last axis needs one number per query head",
        )
    if key_heads == 0 or heads % key_heads:
        raise LeafError(
            "key",
            key,
            f"{key_heads} heads along head_axis={head_axis} cannot be shared by {heads} query "
            f"heads; use a divisor of {heads}",
        )
    grouped = factors.reshape(*factors.shape[:-1], key_heads, heads // key_heads)
    shared = jnp.sqrt(grouped.min(axis=-1, keepdims=True))
    own = (grouped / shared).reshape(factors.shape)
    return _scale_heads(query, own, head_axis), _scale_heads(key, shared[..., 0], head_axis)


def _count_heads(name: str, weight: Array, logits: tuple[int, ...], head_axis: int) -> int:
    """Return the number of heads of a weight, after checking that its axes fit `max_logits`."""
    check_float_array(name, weight)
    batch = logits[:-1]
    if not logits or weight.shape[: len(batch)] != batch:
        raise LeafError(
            name,
            weight,
            f"max_logits has shape {logits}; use [heads], or [*batch, heads], where *batch are "
            "the first axes of the weight",
        )
    if not -weight.ndim <= head_axis < weight.ndim or head_axis % weight.ndim < len(batch):
        raise LeafError(
            name,
            weight,
            f"head_axis={head_axis}; use an axis of the weight that is not one of the "
            f"{len(batch)} batch axes of max_logits",
        )
    return weight.shape[head_axis]


def _scale_heads(weight: Array, factors: Array, head_axis: int) -> Array:
    """Scale each head of a weight in float32 or wider; return the weight in its own dtype."""
    shape = [*factors.shape[:-1], *[1] * (weight.ndim - factors.ndim + 1)]
    shape[head_axis] = factors.shape[-1]
    wide = wide_dtype(weight.dtype)
    scaled = weight.astype(wide) * factors.reshape(shape).astype(wide)
    return scaled.astype(weight.dtype)
