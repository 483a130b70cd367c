"""Knows the momentum: a sum in float32 or wider that stays finite, and a step ahead of it."""

from dataclasses import dataclass

import jax.numpy as jnp
import optax
from jax import Array
from jax.tree_util import KeyPath
from jax.typing import ArrayLike, DTypeLike

from muon_optax.checks import LeafError, path_name
from muon_optax.saturation import saturated


@dataclass(frozen=True)
class Momentum:
    """`μ ← β·μ + gain·g`, and the blend of both that is orthogonalized, at one step.

    Attributes:
      decay: β of this step.
      gain: 1-β for an average, 1 for a heavy ball.
      nesterov: Whether the blend looks one step ahead.
      bias_correction: Whether each term is divided by its bias.
      unit: What the blend is multiplied by: a power of two, so that no bit changes.
    """

    decay: ArrayLike
    gain: ArrayLike
    nesterov: bool
    bias_correction: bool
    unit: float

    def next(self, path: KeyPath, g: Array, mu: Array) -> Array:
        """The momentum after this step, in float32 or wider whatever it is stored in."""
        if g.shape != mu.shape:
            problem = f"its momentum has shape {mu.shape}, not this one"
            raise LeafError(path_name(path), g, problem)
        wide = jnp.promote_types(jnp.promote_types(g.dtype, mu.dtype), jnp.float32)
        total = jnp.asarray(self.decay * mu.astype(wide) + self.gain * g.astype(wide))
        return saturated(total, wide, jnp.isfinite(g) & jnp.isfinite(mu))

    def blend(self, count: ArrayLike, mu: Array, g: Array) -> Array:
        """What is orthogonalized: `μ`, or `β·μ + gain·g`; each term over its bias."""

        def weight(factor: ArrayLike, steps: ArrayLike) -> Array:
            # In μ's dtype: an integer's power is float64 where there is one.
            real = jnp.finfo(mu.dtype).dtype
            power = jnp.asarray(self.decay, real) ** jnp.asarray(steps, real)
            bias = 1 - power if self.bias_correction else 1.0
            return jnp.asarray(self.unit * jnp.asarray(factor, real) / bias)

        if not self.nesterov:
            return saturated(weight(1.0, count) * mu, mu.dtype, jnp.isfinite(mu))
        ahead = weight(self.decay, optax.safe_increment(count))
        total = ahead * mu + weight(self.gain, count) * g.astype(mu.dtype)
        return saturated(total, mu.dtype, jnp.isfinite(mu) & jnp.isfinite(g))


def stored(mu: Array, dtype: DTypeLike) -> Array:
    """`μ` in the dtype of the state."""
    return saturated(mu, dtype, jnp.isfinite(mu)).astype(dtype)
