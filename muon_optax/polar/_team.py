"""Devices that work on the same matrices: a part of the long side each, and of small products.

What has no long side, such as a Gram matrix, every member can have whole, or some rows of it.
The rows of a product take the same rows of one factor, and all of the other.
"""

from dataclasses import dataclass
from typing import Any, Protocol

import jax.numpy as jnp
from jax import Array, lax
from jax.typing import DTypeLike

from muon_optax._platform import Platform
from muon_optax.polar._linalg import product


class Team(Protocol):
    """The devices that have parts of the same matrices.

    Attributes:
      size: How many they are.
    """

    @property
    def size(self) -> int: ...

    def index(self) -> Array:
        """The position of this device in the team, an int32 scalar."""
        ...

    def sum(self, x: Any) -> Any:
        """The sum of all members' arrays, or trees of them."""
        ...

    def max(self, x: Any) -> Any:
        """The maximum of all members' arrays."""
        ...

    def sum_own(self, x: Array) -> Array:
        """The sum of all members' `x[i]`, for the position i of this device."""
        ...

    def gather(self, x: Array, axis: int) -> Array:
        """All members' arrays, concatenated along an axis in the order of positions."""
        ...


class _Alone:
    """The team of a device that has whole matrices."""

    size = 1

    def index(self) -> Array:
        return jnp.int32(0)

    def sum(self, x: Any) -> Any:
        return x

    def max(self, x: Any) -> Any:
        return x

    def sum_own(self, x: Array) -> Array:
        return x[0]

    def gather(self, x: Array, axis: int) -> Array:
        del axis
        return x


ALONE: Team = _Alone()


@dataclass(frozen=True)
class RowProducts:
    """Products of m × m matrices, of which each member of a team has some rows."""

    platform: Platform
    team: Team = ALONE

    def take(self, whole: Array) -> Array:
        """This member's rows; the last member's may end with zeros."""
        if self.team.size == 1:
            return whole
        return lax.dynamic_index_in_dim(
            self._by_member(whole), self.team.index(), keepdims=False
        )

    def sum(self, whole: Array, dtype: DTypeLike | None) -> Array:
        """The sum of all members' matrices, rounded to a dtype."""
        if self.team.size == 1:
            return whole
        # An all-reduce would return all rows before they are rounded: twice the bytes.
        rows = self.team.sum_own(self._by_member(whole))
        return self.gather(rows.astype(dtype or whole.dtype))

    def gather(self, rows: Array) -> Array:
        """The whole of a square matrix."""
        return self.team.gather(rows, -2)[..., : rows.shape[-1], :]

    def multiply(self, rows: Array, whole: Array, dtype: DTypeLike | None = None) -> Array:
        """The rows of a product, summed in float32 or wider and returned so or rounded."""
        return product(rows, whole, dtype, self.platform)

    def _by_member(self, whole: Array) -> Array:
        """`[member, ..., rows, m]`; zeros follow the last row."""
        *batch, m, _ = whole.shape
        rows = -(-m // self.team.size)
        missing = rows * self.team.size - m
        padded = jnp.pad(whole, [*[(0, 0)] * len(batch), (0, missing), (0, 0)])
        return jnp.moveaxis(padded.reshape(*batch, self.team.size, rows, m), -3, 0)
