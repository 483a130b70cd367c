"""Knows the polar factor times its inner product with the matrix: steepest descent's length."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import jax.numpy as jnp
from jax import Array
from jax.typing import DTypeLike

from muon_optax._casting import clip_to_finite
from muon_optax.polar._linalg import check_matrix, scaled
from muon_optax.polar._method import PolarMethod, check_method
from muon_optax.polar._newton_schulz import NewtonSchulz


@dataclass(frozen=True)
class DualNorm:
    """`x ↦ Re⟨x, o⟩·o` with `o = method.polar(x)`: PolarGrad's step.

    With the exact polar factor the product is the nuclear norm, which is dual to the operator
    norm. The update then shrinks with the gradient, as gradient descent's does; learning rates
    are of another order than Muon's.

    Attributes:
      method: Any polar method.

    Raises:
      ValueError: If `method` is none.

    Example:
      >>> from muon_optax import SVD
      >>> x = jnp.diag(jnp.array([3.0, 1.0]))
      >>> DualNorm(SVD()).polar(x).diagonal().round(4).tolist()
      [4.0, 4.0]

    Source: Lau, Long & Su 2025, arXiv 2505.21799; Bernstein & Newhouse 2024, arXiv
    2409.20325.
    """

    method: PolarMethod = NewtonSchulz()  # noqa: RUF009 (frozen)

    def __post_init__(self):
        check_method(self.method)

    def plan(self, shape: Sequence[int], dtype: DTypeLike = "float32") -> Any:
        """How the method works on matrices of a shape, None where it does not say."""
        planned = getattr(self.method, "plan", None)
        return planned and planned(shape, dtype)

    def polar(self, x: Array) -> Array:
        """Scale every matrix's polar factor.

        Args:
          x: `[..., m, n]`, real or complex, of any float dtype.

        Returns:
          The same shape and dtype; the product is summed in float32 or wider. A number beyond
          the largest of x's dtype becomes that.

        Raises:
          ValueError: If x has fewer than two axes or is not of floats.
        """
        check_matrix(x)
        if x.size == 0:
            return x
        y, scale = scaled(x)
        o = self.method.polar(x).astype(y.dtype)
        inner = (y.conj() * o).real.sum((-2, -1), keepdims=True)
        finite = jnp.isfinite(x).all((-2, -1), keepdims=True)
        return clip_to_finite(inner * o / scale, x.dtype, finite).astype(x.dtype)
