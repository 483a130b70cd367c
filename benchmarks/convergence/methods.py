"""Knows the polar methods that an experiment needs and a library does not."""

from dataclasses import dataclass

import jax.numpy as jnp
from jax import Array

from muon_optax import PolarMethod
from muon_optax.polar._linalg import scale_to_range, svd


@dataclass(frozen=True)
class Normalized:
    """No step at all, q = 0: `x/‖x‖_F`, normalised SGD with momentum."""

    def polar(self, x: Array) -> Array:
        """Every matrix over its Frobenius norm."""
        return _normalized(x).astype(x.dtype)


@dataclass(frozen=True)
class MatchedRMS:
    """A method whose result is rescaled to the root mean square of a full-rank polar factor."""

    method: PolarMethod

    def polar(self, x: Array) -> Array:
        """Frobenius norm `√min(m, n)`, whatever the method leaves small; zero stays zero."""
        return _normalized(self.method.polar(x)) * min(x.shape[-2:]) ** 0.5


@dataclass(frozen=True)
class Ramp:
    """By SVD: singular values below `threshold·‖x‖_F` stay in proportion, the others are 1."""

    threshold: float

    def polar(self, x: Array) -> Array:
        """`U·diag(min(1, σ/(threshold·‖σ‖)))·Vᵀ`."""
        u, sigma, vh = _svd(x)
        return (u * jnp.minimum(sigma / self.threshold, 1.0)[..., None, :]) @ vh


@dataclass(frozen=True)
class Filled:
    """A method above `threshold·‖x‖_F`, and 1 for every singular value below it."""

    method: PolarMethod
    threshold: float

    def polar(self, x: Array) -> Array:
        """The method's result, and what it lacks to 1 in the small singular directions."""
        y = self.method.polar(x)
        u, sigma, vh = _svd(x)
        small = (sigma < self.threshold) & (sigma > 1e-6 * sigma[..., :1])
        got = jnp.einsum("...mi,...mn,...in->...i", u, y, vh)
        return y + (u * jnp.where(small, 1 - got, 0.0)[..., None, :]) @ vh


def _svd(x: Array) -> tuple[Array, Array, Array]:
    return svd(_normalized(x))


def _normalized(x: Array) -> Array:
    """`x/‖x‖_F` in float32 or wider; zero stays zero."""
    y, _ = scale_to_range(x)
    norm = jnp.linalg.norm(y, axis=(-2, -1), keepdims=True)
    return y / jnp.where(norm > 0, norm, 1.0)
