"""The devices of a mesh, with axes split into prime factors, and collectives along factors.

Teams and owners are chosen by factors: eight devices along one axis can be four teams of two.

>>> grid = DeviceGrid((("data", 2), ("fsdp", 4)))
>>> dict(grid.sizes)
{'data/0': 2, 'fsdp/0': 2, 'fsdp/1': 2}
>>> grid.groups(("fsdp/0",))
[[0, 2], [1, 3], [4, 6], [5, 7]]
"""

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array, lax

Names = tuple[str, ...]  # names of axes or factors, the slowest first


@dataclass(frozen=True)
class DeviceGrid:
    """The devices of a mesh, numbered along its axes with the last axis fastest.

    Attributes:
      axes: Name and size of each axis with more than one device.
    """

    axes: tuple[tuple[str, int], ...]

    @cached_property
    def sizes(self) -> Mapping[str, int]:
        """The size of each factor, such as `fsdp/0`; the slowest factor is the largest."""
        return {
            f"{axis}/{index}": size
            for axis, length in self.axes
            for index, size in enumerate(_prime_factors(length))
        }

    @property
    def num_devices(self) -> int:
        """The number of devices."""
        return math.prod(self.sizes.values())

    def factors(self, axes: Iterable[str]) -> Names:
        """Return the factors of some axes of the mesh."""
        return tuple(n for axis in axes for n in self.sizes if _axis_of(n) == axis)

    def count(self, names: Iterable[str]) -> int:
        """Return the number of devices along some factors."""
        return math.prod(self.sizes[name] for name in names)

    def numbers(self, names: Names) -> np.ndarray:
        """Return `[i, j]`, the device at position i along `names` and j along other factors."""
        factors = list(self.sizes)
        order = [*names, *(name for name in factors if name not in names)]
        numbers = np.arange(self.num_devices).reshape([*self.sizes.values()])
        return numbers.transpose([*map(factors.index, order)]).reshape(self.count(names), -1)

    def groups(self, names: Names) -> list[list[int]]:
        """Return groups of devices that differ only along `names`, in the order of `names`."""
        return self.numbers(names).T.tolist()


def grid_of(mesh: Mapping[str, int]) -> DeviceGrid:
    """Return the grid of a mesh with these sizes, without axes of one device."""
    return DeviceGrid(tuple((name, size) for name, size in mesh.items() if size > 1))


@dataclass(frozen=True)
class Peers:
    """The devices that differ from this one only along some factors, under `jax.shard_map`.

    Attributes:
      grid: All devices.
      names: The factors.
    """

    grid: DeviceGrid
    names: Names

    @property
    def size(self) -> int:
        """The number of peers, including this device."""
        return self.grid.count(self.names)

    def index(self) -> Array:
        """Return the position of this device among its peers."""
        positions = np.empty(self.grid.num_devices, np.int32)
        for position, devices in enumerate(self.grid.numbers(self.names)):
            positions[devices] = position
        return (
            jnp.asarray(positions)[lax.axis_index(self._axes)] if self.names else jnp.int32(0)
        )

    def sum(self, x: Any) -> Any:
        """Return the sum of the peers' arrays, or trees of arrays."""
        return lax.psum(x, **self._group) if self.size > 1 else x

    def max(self, x: Any) -> Any:
        """Return the maximum of the peers' arrays, or trees of arrays."""
        return lax.pmax(x, **self._group) if self.size > 1 else x

    def sum_own(self, x: Array) -> Array:
        """Return the sum of `x[i]` over the peers, where i is the position of this device."""
        return lax.psum_scatter(x, **self._group)

    def gather(self, x: Array, axis: int = 0) -> Array:
        """Return the peers' arrays, concatenated along an axis."""
        if self.size == 1:
            return x
        return lax.all_gather(x, **self._group, axis=axis % x.ndim, tiled=True)

    def exchange(self, x: Array) -> Array:
        """Send `x[i]` to peer i. Return `[peer, ...]`, what each peer sent to this device."""
        return _all_to_all(x, **self._group) if self.size > 1 else x

    @property
    def _group(self) -> dict[str, Any]:
        """Arguments of a collective: mesh axes if the factors are whole axes, else groups."""
        axes = tuple(dict.fromkeys(map(_axis_of, self.names)))
        if self.grid.factors(axes) == self.names:
            return {"axis_name": axes}
        groups = tuple(map(tuple, self.grid.groups(self.names)))
        return {"axis_name": self._axes, "axis_index_groups": groups}

    @property
    def _axes(self) -> Names:
        return tuple(name for name, _ in self.grid.axes)


def _axis_of(factor: str) -> str:
    """Return the axis of the mesh that has a factor."""
    return factor.rpartition("/")[0]


def _all_to_all(x: Array, **group: Any) -> Array:
    """Run an all-to-all along the first axis; define the `vmap` rule JAX lacks for groups."""

    def move(x: Array) -> Array:
        return lax.all_to_all(x, **group, split_axis=0, concat_axis=0)

    if "axis_index_groups" not in group:
        return move(x)
    exchange = jax.custom_batching.custom_vmap(move)

    @exchange.def_vmap
    def _(size: int, is_batched: Any, x: Array) -> tuple[Array, bool]:
        del size, is_batched
        return jnp.moveaxis(exchange(jnp.moveaxis(x, 0, -1)), -1, 0), True

    # An all-to-all is its own transpose. JAX cannot transpose a custom_vmap either.
    linear = jax.custom_vjp(exchange)
    linear.defvjp(lambda x: (exchange(x), None), lambda _, y: (exchange(y),))
    return linear(x)


def _prime_factors(number: int) -> list[int]:
    """Return the prime factors, the largest first: 3, 2, 2 for 12."""
    for prime in range(2, math.isqrt(number) + 1):
        if number % prime == 0:
            return [*_prime_factors(number // prime), prime]
    return [number] if number > 1 else []
