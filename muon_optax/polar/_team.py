"""Teams: devices that share the same matrices, each with a part of the long side.

Members also share the products of small matrices, such as Gram matrices. Each member computes
some rows of a product, from the same rows of the first factor and the whole second factor.
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
      size: The number of devices.
    """

    @property
    def size(self) -> int: ...

    def index(self) -> Array:
        """Return the position of this device in the team, an int32 scalar."""
        ...

    def sum(self, x: Any) -> Any:
        """Return the sum of all members' arrays, or of their trees of arrays."""
        ...

    def max(self, x: Any) -> Any:
        """Return the maximum of all members' arrays."""
        ...

    def sum_own(self, x: Array) -> Array:
        """Return the sum of all members' `x[i]`, where i is the position of this device."""
        ...

    def gather(self, x: Array, axis: int) -> Array:
        """Return all members' arrays, concatenated along an axis in the order of positions."""
        ...


class _Alone:
    """The team of one device, which has whole matrices."""

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
    """Products of m × m matrices whose rows are divided among the members of a team."""

    platform: Platform
    team: Team = ALONE

    def take(self, whole: Array) -> Array:
        """Return this member's rows; the rows of the last member may be padded with zeros."""
        if self.team.size == 1:
            return whole
        return lax.dynamic_index_in_dim(
            self._by_member(whole), self.team.index(), keepdims=False
        )

    def sum(self, whole: Array, dtype: DTypeLike | None) -> Array:
        """Return the sum of all members' matrices, rounded to a dtype."""
        if self.team.size == 1:
            return whole
        # An all-reduce would move all rows before they are rounded: twice the bytes.
        rows = self.team.sum_own(self._by_member(whole))
        return self.gather(rows.astype(dtype or whole.dtype))

    def gather(self, rows: Array) -> Array:
        """Return the whole square matrix from all members' rows."""
        return self.team.gather(rows, -2)[..., : rows.shape[-1], :]

    def multiply(self, rows: Array, whole: Array, dtype: DTypeLike | None = None) -> Array:
        """Return rows of a product, summed in float32 or wider, then rounded to `dtype`."""
        return product(rows, whole, dtype, self.platform)

    def _by_member(self, whole: Array) -> Array:
        """Return `[member, ..., rows, m]`, padded with zeros after the last row."""
        *batch, m, _ = whole.shape
        rows = -(-m // self.team.size)
        missing = rows * self.team.size - m
        padded = jnp.pad(whole, [*[(0, 0)] * len(batch), (0, missing), (0, 0)])
        return jnp.moveaxis(padded.reshape(*batch, self.team.size, rows, m), -3, 0)
