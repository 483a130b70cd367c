"""The polar step on one device: one program for the whole tree."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial

import jax
import numpy as np
from jax import Array

from muon_optax._platform import Platform, by_platform
from muon_optax.batching._bucket import polar_on_device
from muon_optax.batching._measurement import Measurement, measure_leaves
from muon_optax.batching._static import StaticMethod
from muon_optax.dims import MatrixView
from muon_optax.polar._method import BatchedMethod, PolarMethod, batched


@dataclass(frozen=True)
class SingleDeviceMap:
    """A polar method for the matrices of many leaves on one device."""

    method: PolarMethod

    def map(
        self,
        leaves: Sequence[Array],
        views: Sequence[MatrixView],
        momenta: Sequence[Array | None],
        measurement: Measurement | None = None,
    ) -> tuple[list[Array], list[Array | None], list[Array | None]]:
        """Return polar factors in the leaves' shapes and dtypes, momenta, and measurements."""
        in_place = tuple(self._in_place(view, x) for view, x in zip(views, leaves))
        static = StaticMethod(self.method)
        polars, written = _polar_leaves(static, in_place, list(leaves), list(momenta))
        if measurement is None:
            return polars, written, [None for _ in polars]
        return polars, written, measure_leaves(tuple(views), measurement, leaves, polars)

    def _in_place(self, view: MatrixView, x: Array) -> MatrixView:
        """Return the view, or the transposed view if this only reshapes the array."""
        squares = [m for _, m, n in view.sides if m == n]
        plan = batched(self.method).plan
        if all(plan(m, m, x.dtype, "cpu").commutes_with_transpose for m in squares):
            return view.in_place()
        return view


# The method is a static argument, so that eager steps with equal methods share a program.
@partial(jax.jit, static_argnums=(0, 1))
def _polar_leaves(
    static: StaticMethod,
    views: tuple[MatrixView, ...],
    leaves: list[Array],
    momenta: list[Array | None],
) -> tuple[list[Array], list[Array | None]]:
    return by_platform(partial(_polar, batched(static.method), views), leaves, momenta)


def _polar(
    method: BatchedMethod,
    views: tuple[MatrixView, ...],
    platform: Platform,
    leaves: list[Array],
    momenta: list[Array | None],
) -> tuple[list[Array], list[Array | None]]:
    momenta = list(momenta)
    stacks = [_to_stacks(view, x) for view, x in zip(views, leaves)]
    beside = [_to_stacks_beside(view, momentum) for view, momentum in zip(views, momenta)]
    flat, treedef = jax.tree.flatten(stacks)
    polars, written = polar_on_device(
        method, platform, flat, [m for stacks_of_leaf in beside for m in stacks_of_leaf]
    )
    polars = treedef.unflatten(polars)
    firsts = np.cumsum([0, *map(len, stacks)])
    results = [v.from_matrices(ys, x.shape) for v, ys, x in zip(views, polars, leaves)]
    for index, momentum in enumerate(momenta):
        found = written[firsts[index]]
        if found is not None and momentum is not None:
            momenta[index] = found.reshape(momentum.shape)
    return results, momenta


def _to_stacks(view: MatrixView, x: Array) -> list[Array]:
    """Return the matrices of a leaf as stacks `[batch, m, n]`, or `[m, n]` for one matrix."""
    # XLA would remove a batch axis of 1 in some operations only, which would then not fuse.
    return [stack[0] if len(stack) == 1 else stack for stack in view.to_matrices(x)]


def _to_stacks_beside(view: MatrixView, momentum: Array | None) -> list[Array | None]:
    """Reshape the momentum to the stacks; return None for each stack if it takes a copy."""
    if momentum is None or not view.is_reshape:
        return [None] * len(view.sides)
    return [*_to_stacks(view, momentum)]
