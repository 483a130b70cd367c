"""What a polar method is: an object with `polar(x)`, and two optional methods for batching.

>>> from dataclasses import dataclass
>>> from muon_optax import orthogonalize
>>> @dataclass(frozen=True)
... class Normalize:
...     def polar(self, x):
...         return x / jnp.linalg.norm(x, axis=(-2, -1), keepdims=True)
>>> orthogonalize(jnp.eye(4), Normalize()).diagonal().tolist()
[0.5, 0.5, 0.5, 0.5]
"""

import math
from collections.abc import Hashable, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import jax.numpy as jnp
from jax import Array
from jax.typing import DTypeLike

from muon_optax._platform import Platform


class PolarMethod(Protocol):
    """Anything that can orthogonalize: `polar(x)`, of x's shape and dtype, with `polar(0) = 0`.

    A method has no `__call__`, because `optax.inject_hyperparams` takes every callable argument
    for a schedule. A frozen dataclass is best: equal methods then share a compiled program.

    Two more methods are optional, see `BatchedMethod`: `plan` says what a matrix costs and
    which stacks may go through one call, `polar_stacks` is that call. Without it each stack
    goes through `polar`.
    """

    def polar(self, x: Array, /) -> Array:
        """The polar factor, exact or not, of every matrix of `x: [..., m, n]`."""
        ...


@dataclass(frozen=True)
class MethodPlan:
    """How a method works on one m × n matrix, m ≤ n: what batching needs to know of it.

    Attributes:
      flops: Operations; a multiplication and an addition count as two.
      bucket: Stacks whose plans have equal buckets go through one call of `polar_stacks`.
      wire_dtype: The dtype in which matrices may travel between devices, at most as wide as
        their own; None for their own.
      undivided_flops: Operations that each device makes where several have a part of the long
        side each; infinite for a method that needs the matrix whole.
      divided_flops: Operations that those devices share.
      is_guess: Whether `flops` is a guess, because the method does not count its operations.
    """

    flops: float
    bucket: Hashable
    wire_dtype: str | None = None
    undivided_flops: float = math.inf
    divided_flops: float = 0.0
    is_guess: bool = False

    def flops_per_device(self, devices: int) -> float:
        """Of each of several devices that have a part of the long side each."""
        if devices == 1:
            return self.flops
        return self.undivided_flops + self.divided_flops / devices


class BatchedMethod(PolarMethod, Protocol):
    """A method with both optional methods; `batched` makes one of any."""

    def plan(self, m: int, n: int, dtype: DTypeLike, platform: Platform, /) -> MethodPlan:
        """What one m × n matrix costs, m ≤ n, and which stacks may go through one call."""
        ...

    def polar_stacks(
        self, stacks: Sequence[Array], platform: Platform, axes: tuple[str, ...] = ()
    ) -> list[Array]:
        """The polar factors of stacks `[batch, m, n]`, m ≤ n, whose plans have equal buckets.

        `axes` are mesh axes, under `jax.shard_map`, along which devices have parts of the long
        sides; a method whose plan has infinite `undivided_flops` never gets any.
        """
        ...


def batched(method: PolarMethod) -> BatchedMethod:
    """The method itself if it has both optional methods, else one that supplies them."""
    if hasattr(method, "plan") and hasattr(method, "polar_stacks"):
        return method  # pyright: ignore[reportReturnType] (it has both)
    return _OneByOne(method)


@dataclass(frozen=True)
class _OneByOne:
    """A method that goes through every stack by itself."""

    method: PolarMethod

    def polar(self, x: Array) -> Array:
        return self.method.polar(x)

    def plan(self, m: int, n: int, dtype: DTypeLike, platform: Platform) -> MethodPlan:
        if plan := getattr(self.method, "plan", None):
            return plan(m, n, dtype, platform)
        bucket = m, n, jnp.dtype(dtype).name
        return MethodPlan(flops=m * m * n, bucket=bucket, is_guess=True)

    def polar_stacks(
        self, stacks: Sequence[Array], platform: Platform, axes: tuple[str, ...] = ()
    ) -> list[Array]:
        del platform, axes
        return [self.method.polar(x) for x in stacks]


def check_method(method: Any) -> None:
    """Refuse anything that is not a polar method: a name, a family, a class."""
    if isinstance(method, type) or not callable(getattr(method, "polar", None)):
        raise ValueError(
            f"method={method!r:.80}; use NewtonSchulz(), NewtonSchulz('polar_express', 8), "
            "SVD(), one of METHODS, such as METHODS['fast'], or an object with .polar"
        )
