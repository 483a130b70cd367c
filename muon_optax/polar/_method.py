"""The interface of polar methods: `polar(x)`, and three optional methods for batching."""

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
    """An object with `polar(x)`, which returns x's polar factor, exact or approximate.

    The polar factor of `x = U·diag(σ)·Vᴴ` is `U·Vᴴ` over the nonzero σ, so `polar(0) = 0`.

    Write a frozen dataclass: equal methods then share a compiled program. A method must not
    change after its first use. It must not have `__call__`, because `optax.inject_hyperparams`
    treats callable arguments as schedules. Three optional methods make many matrices share one
    call; see `BatchedMethod`.

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
        """Return the polar factor of every matrix of `x: [..., m, n]`, in x's shape and dtype.

        Without `polar_stacks`, `muon` passes only wide matrices, m ≤ n, and assumes that
        `polar(xᵀ)` is `polar(x)ᵀ`.
        """
        ...


@dataclass(frozen=True)
class MethodPlan:
    """The cost of one m × n matrix, m ≤ n, and how it may be batched.

    A team is a group of devices that share one matrix. Each device has a part of the long side.

    Attributes:
      flops: The number of operations; a multiplication and an addition count as two.
      bucket: Stacks with equal buckets go through one call of `polar_stacks`. Any hashable
        value, such as `(m, n, dtype)`; None if a stack needs a call of its own.
      wire_dtype: The dtype in which matrices are sent between devices and passed to the method.
        It is at most as wide as the matrices' own dtype. None means their own dtype.
      team_bytes: Bytes that each device of a large team receives per matrix; infinite if the
        method needs whole matrices.
      is_guess: Whether `flops` is a guess, because the method does not count its operations.
      commutes_with_transpose: Whether `polar(xᵀ)` of a square matrix is `polar(x)ᵀ`. If not,
        square matrices are always passed as `[fan_in, fan_out]`.
    """

    flops: float
    bucket: Hashable
    wire_dtype: str | None = None
    team_bytes: float = math.inf
    is_guess: bool = False
    commutes_with_transpose: bool = False


class BatchedMethod(PolarMethod, Protocol):
    """A polar method with the optional methods `plan`, `prepare` and `polar_stacks`."""

    def plan(self, m: int, n: int, dtype: DTypeLike, platform: Platform, /) -> MethodPlan:
        """Return the cost of one m × n matrix, m ≤ n, and which stacks may share a call."""
        ...

    def prepare(self, x: Array, platform: Platform, /) -> Any:
        """Return the input of `polar_stacks`, a tree of arrays, for any matrices `[..., m, n]`.

        It is computed in the pass over memory that updates the momentum, so keep it small and
        in the dtype of the products. Returning x is always correct.
        """
        ...

    def polar_stacks(
        self, operands: Sequence[Any], platform: Platform, team: Team = ALONE
    ) -> list[Array]:
        """Return the polar factors, from what `prepare` returned for stacks of one bucket.

        In a team of several devices, each device has a part of the long side, and all matrices
        are wide. A method whose plan has infinite `team_bytes` gets no such team.
        """
        ...


_OPTIONAL = ("plan", "prepare", "polar_stacks")


def batched(method: PolarMethod) -> BatchedMethod:
    """Return the method, wrapped to add the optional methods if any of them is missing."""
    if all(hasattr(method, name) for name in _OPTIONAL):
        return method  # pyright: ignore[reportReturnType] (it has all)
    return _OneByOne(method)


@dataclass(frozen=True)
class _OneByOne:
    """A method that is called once for every stack."""

    method: PolarMethod

    def polar(self, x: Array) -> Array:
        return self.method.polar(x)

    def plan(self, m: int, n: int, dtype: DTypeLike, platform: Platform) -> MethodPlan:
        if plan := getattr(self.method, "plan", None):  # it does not support teams
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
    """Refuse polar factors that do not have the shapes of the matrices."""
    expected, found = ([jnp.shape(x) for x in of] for of in (stacks, polars))
    if found != expected:
        raise ValueError(
            f"{describe(method)} returned shapes {found} for matrices of shapes {expected}; "
            "return the same shapes"
        )


def check_method(method: Any) -> None:
    """Refuse anything that is not a polar method, for example a class or a family."""
    if isinstance(method, type) or not callable(getattr(method, "polar", None)):
        raise ValueError(
            f"method={describe(method)}; use a name such as 'fast', NewtonSchulz('jordan', 5), "
            "SVD(), or an object with .polar(x)"
        )
    missing = [name for name in _OPTIONAL if not hasattr(method, name)]
    if missing and hasattr(method, "polar_stacks"):
        raise ValueError(
            f"method={describe(method)} has polar_stacks, so it also needs "
            f"{' and '.join(missing)}; see BatchedMethod"
        )
