"""What a polar method is: an object with `polar(x)`, and three optional methods, to batch."""

import dataclasses
import math
from collections.abc import Hashable, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import jax.numpy as jnp
from jax import Array
from jax.typing import DTypeLike

from muon_optax._checks import describe
from muon_optax._platform import Platform
from muon_optax.polar._team import ALONE, Team


class PolarMethod(Protocol):
    """Anything that can orthogonalize: `polar(x)`, of x's shape and dtype, with `polar(0) = 0`.

    A method has no `__call__`, because `optax.inject_hyperparams` takes every callable argument
    for a schedule. A frozen dataclass is best: equal methods then share a compiled program. A
    method must not change after its first use.

    Three more methods are optional, see `BatchedMethod`: `plan` says what a matrix costs and
    which stacks may go through one call, `prepare` what is read of each stack, and
    `polar_stacks` is that call. Without it each stack goes through `polar`.

    Example:
      >>> from muon_optax import orthogonalize
      >>> @dataclass(frozen=True)
      ... class Normalize:
      ...     def polar(self, x):
      ...         norm = jnp.linalg.norm(x, axis=(-2, -1), keepdims=True)
      ...         return x / jnp.where(norm > 0, norm, 1)
      >>> orthogonalize(jnp.eye(4), Normalize()).diagonal().tolist()
      [0.5, 0.5, 0.5, 0.5]
    """

    def polar(self, x: Array, /) -> Array:
        """The polar factor, exact or not, of every matrix of `x: [..., m, n]`.

        Without `polar_stacks` `muon` passes wide matrices only, m ≤ n: it takes `polar(xᵀ)` to
        be `polar(x)ᵀ`.
        """
        ...


@dataclass(frozen=True)
class MethodPlan:
    """How a method works on one m × n matrix, m ≤ n: what batching needs to know of it.

    Attributes:
      flops: Operations; a multiplication and an addition count as two.
      bucket: Stacks whose plans have equal buckets go through one call of `polar_stacks`, such
        as `(m, n, dtype)`. A stack goes alone if it is None.
      wire_dtype: The dtype in which matrices may travel between devices, at most as wide as
        their own; None for their own. The method gets them as they arrive.
      team_bytes: Bytes that each device of a large team receives while they share the
        operations on one matrix, of which each has a part of the long side; infinite for a
        method that needs the matrix whole.
      is_guess: Whether `flops` is a guess, because the method does not count its operations.
      commutes_with_transpose: Whether `polar(xᵀ)` of a square matrix is `polar(x)ᵀ`. Otherwise
        squares are passed as `[fan_in, fan_out]`, even if that transposes an array.
    """

    flops: float
    bucket: Hashable
    wire_dtype: str | None = None
    team_bytes: float = math.inf
    is_guess: bool = False
    commutes_with_transpose: bool = False


class BatchedMethod(PolarMethod, Protocol):
    """A polar method with the optional methods: `plan`, `prepare` and `polar_stacks`."""

    def plan(self, m: int, n: int, dtype: DTypeLike, platform: Platform, /) -> MethodPlan:
        """What one m × n matrix costs, m ≤ n, and which stacks may go through one call."""
        ...

    def prepare(self, x: Array, platform: Platform, /) -> Any:
        """What `polar_stacks` needs of matrices `[..., m, n]`, wide or tall: a tree of arrays.

        The pass over memory that makes a gradient's momentum makes it, too. It should be small
        and in the dtype of the products; x itself is always right.
        """
        ...

    def polar_stacks(
        self, operands: Sequence[Any], platform: Platform, team: Team = ALONE
    ) -> list[Array]:
        """The polar factors of what `prepare` returned for stacks of one bucket.

        A device of a team of several has a part of the long side of wide matrices. A method
        whose plan has infinite `team_bytes` never gets such a team.
        """
        ...


_OPTIONAL = ("plan", "prepare", "polar_stacks")


def batched(method: PolarMethod) -> BatchedMethod:
    """The method itself if it has all optional methods, or one that adds what is missing."""
    if all(hasattr(method, name) for name in _OPTIONAL):
        return method  # pyright: ignore[reportReturnType] (it has all)
    return _OneByOne(method)


@dataclass(frozen=True)
class _OneByOne:
    """A method that goes through every stack by itself."""

    method: PolarMethod

    def polar(self, x: Array) -> Array:
        return self.method.polar(x)

    def plan(self, m: int, n: int, dtype: DTypeLike, platform: Platform) -> MethodPlan:
        if plan := getattr(self.method, "plan", None):  # but it needs the matrix whole
            return dataclasses.replace(plan(m, n, dtype, platform), team_bytes=math.inf)
        bucket = m, n, jnp.dtype(dtype).name
        return MethodPlan(flops=m * m * n, bucket=bucket, is_guess=True)

    def prepare(self, x: Array, platform: Platform) -> Array:
        del platform
        return x

    def polar_stacks(
        self, operands: Sequence[Array], platform: Platform, team: Team = ALONE
    ) -> list[Array]:
        del platform, team
        return [self._polar_wide(x) for x in operands]

    def _polar_wide(self, x: Array) -> Array:
        if x.shape[-2] > x.shape[-1]:
            return self.method.polar(x.mT).mT
        return self.method.polar(x)


def check_polars(method: Any, stacks: Sequence[Array], polars: Sequence[Array]) -> None:
    """Refuse polar factors that do not have the shapes of their matrices."""
    expected, found = ([jnp.shape(x) for x in of] for of in (stacks, polars))
    if found != expected:
        raise ValueError(
            f"{describe(method)} returned shapes {found} for matrices of shapes {expected}; "
            "return the same shapes"
        )


def check_method(method: Any) -> None:
    """Refuse anything that is not a polar method: a family, a class."""
    if isinstance(method, type) or not callable(getattr(method, "polar", None)):
        raise ValueError(
            f"method={describe(method)}; use a name, such as 'fast', NewtonSchulz('jordan', "
            "5), SVD(), or an object with .polar"
        )
    missing = [name for name in _OPTIONAL if not hasattr(method, name)]
    if missing and hasattr(method, "polar_stacks"):
        raise ValueError(
            f"method={describe(method)} has polar_stacks; it needs {' and '.join(missing)}, "
            "too: plan says which stacks share a call, prepare what it gets of each"
        )
