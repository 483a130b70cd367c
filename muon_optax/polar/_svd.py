"""The exact polar factor, by the singular value decomposition."""

from dataclasses import dataclass
from functools import partial

import jax
import jax.numpy as jnp
from jax import Array

from muon_optax._checks import check_number
from muon_optax.polar._linalg import check_matrix, product, scale_to_range, svd


@dataclass(frozen=True)
class SVD:
    """The exact polar factor `U·Vᴴ` over the singular values above `rcond·σ_max`.

    If x has full rank, it is the unitary factor of `scipy.linalg.polar`. Directions of the null
    space become zero, and so does the zero matrix. A matrix that is not finite becomes NaN and
    does not affect other matrices of its batch. All is computed in float32 or wider.

    Attributes:
      rcond: Singular values up to `rcond·σ_max` count as zero. None means `max(m, n)·eps` of
        the computing dtype. Pass a larger `rcond` for a rank-deficient x in half precision,
        because rounding gives it full rank.

    Raises:
      ValueError: If `rcond` is not in [0, 1).

    Example:
      >>> SVD().polar(jnp.diag(jnp.array([3.0, -2.0, 0.0]))).diagonal().tolist()
      [1.0, -1.0, 0.0]

    Source: Kim & Oh, arXiv 2601.19156, Section 3.1 and Theorem 4.
    """

    rcond: float | None = None

    def __post_init__(self):
        if self.rcond is not None:
            check_number(
                "rcond", self.rcond, "None or a number in [0, 1)", lambda r: 0 <= r < 1
            )

    @partial(jax.jit, static_argnums=0)
    def polar(self, x: Array) -> Array:
        """The polar factor of every matrix of a batch.

        Args:
          x: `[..., m, n]`, real or complex, of any float dtype.

        Returns:
          The same shape and dtype.

        Raises:
          ValueError: If x is not an array `[..., m, n]` of floats.
        """
        check_matrix(x)
        if x.size == 0:
            return x
        y, _ = scale_to_range(x)
        u, sigma, vh = svd(y)
        default = max(x.shape[-2:]) * float(jnp.finfo(sigma.dtype).eps)
        rcond = default if self.rcond is None else self.rcond
        # Not >=, because a zero matrix has arbitrary singular vectors.
        kept = (sigma > rcond * sigma[..., :1]).astype(u.dtype)
        return product(u * kept[..., None, :], vh).astype(x.dtype)
