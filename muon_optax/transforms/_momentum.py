"""Knows the momentum: a sum in float32 or wider that stays finite, and a step ahead of it."""

from dataclasses import dataclass

import jax.numpy as jnp
import optax
from jax import Array
from jax.tree_util import KeyPath
from jax.typing import ArrayLike

from muon_optax._casting import clip_to_finite
from muon_optax._leaves import LeafError, path_name


@dataclass(frozen=True)
class Momentum:
    """`μ ← β·μ + gain·g`, and the blend of both that is orthogonalized, at one step.

    Attributes:
      decay: β of this step.
      gain: 1-β for an average, 1 for a heavy ball.
      nesterov: Whether the blend looks one step ahead.
      bias_correction: Whether each term is divided by its bias.
      at_any_scale: Whether the blend may be a power of two smaller, as the method cannot tell.
    """

    decay: ArrayLike
    gain: ArrayLike
    nesterov: bool
    bias_correction: bool
    at_any_scale: bool

    def next(self, path: KeyPath, g: Array, mu: Array) -> Array:
        """The momentum after this step, in float32 or wider whatever it is stored in."""
        if g.shape != mu.shape:
            problem = f"its momentum has shape {mu.shape}, not this one"
            raise LeafError(path_name(path), g, problem)
        wide = jnp.promote_types(jnp.promote_types(g.dtype, mu.dtype), jnp.float32)
        decay, gain = (jnp.asarray(w, jnp.finfo(wide).dtype) for w in (self.decay, self.gain))
        total = decay * mu.astype(wide) + gain * g.astype(wide)
        return clip_to_finite(total, wide, jnp.isfinite(g) & jnp.isfinite(mu))

    def blend(self, count: Array, mu: Array, g: Array) -> Array:
        """What is orthogonalized: `μ`, or `β·μ + gain·g`; each term over its bias."""
        real = jnp.finfo(mu.dtype).dtype

        def weight(factor: ArrayLike, steps: ArrayLike) -> Array:
            # In μ's dtype: an integer's power is float64 where there is one.
            power = jnp.asarray(self.decay, real) ** jnp.asarray(steps, real)
            bias = 1 - power if self.bias_correction else jnp.ones([], real)
            return jnp.asarray(factor, real) / bias

        terms = [(weight(1.0, count), mu)]
        if self.nesterov:
            ahead = weight(self.decay, optax.safe_increment(count))
            terms = [(ahead, mu), (weight(self.gain, count), g.astype(mu.dtype))]
        # Weights of at most 1 in all: no sum passes the largest number, nor is ∞ - ∞.
        total = sum((w for w, _ in terms), start=jnp.zeros([], real))
        unit = jnp.where(total > 1, jnp.ldexp(jnp.ones([], real), -jnp.frexp(total)[1]), 1)
        blend = sum((unit * w * x for w, x in terms), start=jnp.zeros([], mu.dtype))
        blend = blend if self.at_any_scale else blend / unit
        return clip_to_finite(blend, mu.dtype, jnp.isfinite(mu) & jnp.isfinite(g))
