"""The polar factor times its inner product with the matrix: the step of steepest descent."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import jax.numpy as jnp
from jax import Array
from jax.typing import DTypeLike

from muon_optax._casting import clip_to_finite
from muon_optax._platform import Platform
from muon_optax.polar._linalg import check_matrix, scale_to_range
from muon_optax.polar._method import MethodPlan, PolarMethod, batched, check_method
from muon_optax.polar._newton_schulz import NewtonSchulz
from muon_optax.polar._team import ALONE, Team


@dataclass(frozen=True)
class DualNorm:
    """PolarGrad's step: `x ↦ Re⟨x, o⟩·o` with `o = method.polar(x)`.

    With the exact polar factor, `⟨x, o⟩` is the nuclear norm of x, the dual of the operator
    norm. The update shrinks with the gradient, as in gradient descent, so Muon's learning rates
    are not suitable.

    Attributes:
      method: Any polar method.

    Raises:
      ValueError: If `method` is not a polar method.

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

    def polar(self, x: Array) -> Array:
        """Return the scaled polar factor of every matrix.

        Args:
          x: `[..., m, n]`, real or complex, of any float dtype.

        Returns:
          The same shape and dtype. Inner products are summed in float32 or wider, and results
          are clipped to the largest number of x's dtype.

        Raises:
          ValueError: If x is not an array `[..., m, n]` of floats.
        """
        check_matrix(x)
        return x if x.size == 0 else _scale_by_inner(x, self.method.polar(x))

    def plan(
        self, m: int, n: int, dtype: DTypeLike = "float32", platform: Platform = "cpu"
    ) -> MethodPlan:
        """Return the plan of the inner method."""
        return batched(self.method).plan(min(m, n), max(m, n), dtype, platform)

    def prepare(self, x: Array, platform: Platform) -> tuple[Array, Any]:
        """Return the stack, and what the inner method prepares from it."""
        return x, batched(self.method).prepare(x, platform)

    def polar_stacks(
        self,
        operands: Sequence[tuple[Array, Any]],
        platform: Platform,
        team: Team = ALONE,
    ) -> list[Array]:
        """Return the scaled polar factors of stacks that share the inner method's products."""
        xs, inner = zip(*operands)
        polars = batched(self.method).polar_stacks(inner, platform, team)
        return [_scale_by_inner(x, o, team) for x, o in zip(xs, polars)]


def _scale_by_inner(x: Array, polar: Array, team: Team = ALONE) -> Array:
    """Return `Re⟨x, o⟩·o` for matrices that a team of devices may share."""
    y, scale = scale_to_range(x, team.max)
    o = polar.astype(y.dtype)
    inner = (y.conj() * o).real.sum((-2, -1), keepdims=True)
    broken = (~jnp.isfinite(x)).any((-2, -1), keepdims=True)
    inner, broken = team.sum((inner, broken.astype(jnp.int32)))
    update = inner.astype(y.dtype) * o / scale.astype(y.dtype)
    return clip_to_finite(update, x.dtype, broken == 0).astype(x.dtype)
