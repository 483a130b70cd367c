"""Upper bounds on a matrix's largest singular value, computed from its Gram matrix."""

from dataclasses import dataclass
from typing import Literal

import jax.numpy as jnp
from jax import Array

from muon_optax.polar._linalg import svd

Normalization = Literal["frobenius", "schatten4", "aol", "spectral", "paper"]


@dataclass(frozen=True)
class NormBound:
    """A divisor that brings all singular values of a matrix to at most 1.

    Attributes:
      normalize: Which bound; see `NewtonSchulz`.
      eps: A number added to `‖x‖_F` or `‖x‖_op`, in units of x.
    """

    normalize: Normalization
    eps: float

    @property
    def is_of_rows(self) -> bool:
        """Whether each row has a divisor of its own."""
        return self.normalize == "aol"

    def __call__(self, gram: Array, scale: Array) -> Array:
        """Return the divisor of `y = scale·x`, from `gram = y·yᴴ: [..., m, m]`.

        The dtype of `gram` is at least as wide as that of `scale`. The result is
        `[..., m, 1]` if rows have divisors of their own, else `[..., 1, 1]`. It is 1 where y is
        zero.
        """
        scale = scale.astype(jnp.finfo(gram.dtype).dtype)
        return self._bound(gram, scale).astype(gram.dtype)

    def _bound(self, gram: Array, scale: Array) -> Array:
        if self.normalize == "aol":
            return jnp.sqrt(_positive(jnp.abs(gram).sum(-1, keepdims=True)))
        if self.normalize == "schatten4":
            square = jnp.sum((gram * gram.conj()).real, (-2, -1), keepdims=True)
            return jnp.sqrt(jnp.sqrt(_positive(square)))
        if self.normalize == "spectral":
            sigma = svd(gram, compute_uv=False)[..., :1, None]
            return jnp.sqrt(_positive(sigma)) + self.eps * scale
        # XLA's trace is a mask, not a gather, so compilers fuse it into the product.
        trace = jnp.trace(gram, axis1=-2, axis2=-1).real[..., None, None]
        frobenius = jnp.sqrt(_positive(trace))
        if self.normalize == "paper":
            return jnp.maximum(scale, frobenius)
        return frobenius + self.eps * scale


def _positive(x: Array) -> Array:
    """Replace zeros by 1 and raise tiny numbers, so that the square root has a gradient."""
    info = jnp.finfo(x.dtype)
    return jnp.where(x > 0, jnp.maximum(x, info.tiny / info.eps), 1)
