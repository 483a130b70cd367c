"""Upper bounds of a matrix's largest singular value, all computed from its Gram matrix."""

from dataclasses import dataclass
from typing import Literal

import jax.numpy as jnp
from jax import Array

from muon_optax.polar._linalg import svd

Normalization = Literal["frobenius", "schatten4", "aol", "spectral", "paper"]


@dataclass(frozen=True)
class NormBound:
    """The divisor of a matrix that brings every singular value to at most 1.

    Attributes:
      normalize: Which bound; see `NewtonSchulz`.
      eps: Added to `‖x‖_F` or `‖x‖_op`, in the unit of x.
    """

    normalize: Normalization
    eps: float

    @property
    def is_of_rows(self) -> bool:
        """Whether each row has a divisor of its own."""
        return self.normalize == "aol"

    def __call__(self, gram: Array, scale: Array) -> Array:
        """The divisor of the rows of y, from `gram = y·yᴴ` for `y = scale·x`.

        `gram` is `[..., m, m]` in a dtype that holds that of `scale`. Returns `[..., m, 1]` of
        the rows, else `[..., 1, 1]`; 1 where y is zero.
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
        # By a mask and not by indices: compilers append that to the product.
        trace = jnp.trace(gram, axis1=-2, axis2=-1).real[..., None, None]
        frobenius = jnp.sqrt(_positive(trace))
        if self.normalize == "paper":
            return jnp.maximum(scale, frobenius)
        return frobenius + self.eps * scale


def _positive(x: Array) -> Array:
    """`x` with 1 in place of 0, so that its root has a gradient, and tiny sums raised."""
    info = jnp.finfo(x.dtype)
    return jnp.where(x > 0, jnp.maximum(x, info.tiny / info.eps), 1)
