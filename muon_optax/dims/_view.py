"""Knows the view of an array as stacks `[batch, fan_in, fan_out]`, and if a spec fits it."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import jax.numpy as jnp
import numpy as np
from jax import Array
from optax.contrib import MuonDimensionNumbers

from muon_optax._leaves import LeafError
from muon_optax.dims._spec import Factor, parse

Spec = MuonDimensionNumbers | str | None
Axes = tuple[int, ...]


@dataclass(frozen=True)
class MatrixView:
    """Which axes of an array are batch, rows and columns; every axis in one of them.

    Attributes:
      spec: What gives this view.
      shape: The array's shape, once axes that are products are told apart.
      batch: The axes of `shape` along which there is one matrix after another.
      reduction: The axes that a layer sums over; flattened, `fan_in`.
      output: The axes that remain; flattened, `fan_out`.
      divided: The axis along which matrices of unequal sides lie, if there is one.
      parts: Their lengths along it.

    Example:
      >>> x = jnp.ones((5, 32, 24))
      >>> view = view_of("layers in out[q=16 k=4 v=4]", "qkv", x)
      >>> view.sides, [matrices.shape for matrices in view.to_matrices(x)]
      (((5, 32, 16), (5, 32, 4), (5, 32, 4)), [(5, 32, 16), (5, 32, 4), (5, 32, 4)])
    """

    spec: MuonDimensionNumbers | str
    shape: Axes
    batch: Axes
    reduction: Axes
    output: Axes
    divided: int | None = None
    parts: Axes = ()

    @property
    def sides(self) -> tuple[tuple[int, int, int], ...]:
        """`(batch, fan_in, fan_out)` of every stack: one, but for a divided axis."""

        def length(shape: Axes, axes: Axes) -> int:
            return math.prod(shape[axis] for axis in axes)

        axes = self.batch, self.reduction, self.output
        batch, rows, columns = ([length(s, group) for s in self._shapes] for group in axes)
        return tuple(zip(batch, rows, columns))

    def to_matrices(self, x: Array) -> list[Array]:
        """`x` as stacks `[batch, fan_in, fan_out]`; a batch of 1 where it has no such axis."""
        pieces = [x.reshape(self.shape)]
        if self.divided is not None:
            pieces = jnp.split(pieces[0], np.cumsum(self.parts)[:-1], self.divided)
        return [p.transpose(self._order).reshape(s) for p, s in zip(pieces, self.sides)]

    def from_matrices(self, stacks: Sequence[Array], shape: Axes) -> Array:
        """The inverse of `to_matrices`, for an array of that shape."""
        order = self._order
        inverse = sorted(range(len(order)), key=order.__getitem__)
        pieces = [
            stack.reshape([piece[axis] for axis in order]).transpose(inverse)
            for stack, piece in zip(stacks, self._shapes)
        ]
        if self.divided is not None:
            pieces = [jnp.concatenate(pieces, self.divided)]
        return pieces[0].reshape(shape)

    def factors(self, shape: Axes) -> list[Axes]:
        """Which axes of the view each axis of an array of that shape is the product of."""
        groups, start = [], 0
        for length in shape:
            stop = start + 1
            while stop < len(self.shape) and math.prod(self.shape[start:stop]) < length:
                stop += 1
            groups.append(tuple(range(start, stop)))
            start = stop
        return groups

    def of_parts(self, values: Sequence[float], shape: Axes) -> np.ndarray:
        """One value for each stack, to be multiplied with an array of that shape."""
        groups = self.factors(shape)
        (own,) = (group for group in groups if self.divided in group)
        lengths = [self.shape[axis] if axis in own else 1 for axis in range(len(self.shape))]
        ones = [size if axis == self.divided else 1 for axis, size in enumerate(self.shape)]
        along = np.repeat(values, self.parts).reshape(ones)
        sizes = [length if group == own else 1 for group, length in zip(groups, shape)]
        return np.broadcast_to(along, lengths).reshape(sizes)

    @property
    def _order(self) -> Axes:
        return self.batch + self.reduction + self.output

    @property
    def _shapes(self) -> list[Axes]:
        """Of the array's part of every stack."""
        if self.divided is None:
            return [self.shape]
        before, after = self.shape[: self.divided], self.shape[self.divided + 1 :]
        return [(*before, part, *after) for part in self.parts]


def view_of(spec: Spec, name: str, leaf: Any) -> MatrixView | None:
    """The view that a spec gives of a leaf; None for None.

    Args:
      spec: Its spec, or None.
      name: The leaf's path, for the error.
      leaf: An array or a `jax.ShapeDtypeStruct`.

    Returns:
      The view, axes counted from the front.

    Raises:
      LeafError: If the spec does not fit the leaf's axes, or names no axis for a side.
      SpecError: If a string cannot be read.
    """
    if spec is None:
        return None
    if isinstance(spec, str):
        return _view_of_names(spec, name, leaf)
    ndim = len(leaf.shape)
    given = [(axes,) if isinstance(axes, int) else tuple(axes) for axes in spec]
    if ndim < 2 or not all(-ndim <= axis < ndim for axes in given for axis in axes):
        problem = f"{spec} names axes that it lacks; use None for a leaf that is no matrix"
        raise LeafError(name, leaf, problem)
    reduction, output = (tuple(axis % ndim for axis in axes) for axes in given)
    named = reduction + output
    if not reduction or not output or len(set(named)) < len(named):
        problem = f"{spec} must name an axis each for reduction and output, none twice"
        raise LeafError(name, leaf, problem)
    batch = tuple(axis for axis in range(ndim) if axis not in named)
    return MatrixView(spec, tuple(leaf.shape), batch, reduction, output)


def _view_of_names(spec: str, name: str, leaf: Any) -> MatrixView:
    names = parse(spec, f"leaf {name!r}")
    if not names.fits(len(leaf.shape)):
        several = "at least " * names.leading
        problem = f"{spec!r} is for {several}{len(names.axes)} axes; write a word for each"
        raise LeafError(name, leaf, problem)
    leading = len(leaf.shape) - len(names.axes)
    shape, factors = list(leaf.shape[:leading]), [Factor("", None, (), 0)] * leading
    divided, parts = None, ()
    for length, axis in zip(leaf.shape[leading:], names.axes):
        for factor, size in zip(axis, _factored(length, axis, spec, name, leaf)):
            if factor.parts:
                divided = len(shape)
                parts = _divided(size, factor, spec, name, leaf)
            shape.append(size)
            factors.append(factor)
    sides = {"in": [], "out": []}
    batch = []
    for position, factor in enumerate(factors):
        sides.get(factor.name, batch).append(position)
    axes = (tuple(batch), tuple(sides["in"]), tuple(sides["out"]))
    return MatrixView(spec, tuple(shape), *axes, divided, parts)


def _factored(
    length: int, axis: tuple[Factor, ...], spec: str, name: str, leaf: Any
) -> list[int]:
    """The sizes of an axis' factors; one may follow from its length."""
    known = math.prod(factor.size or 1 for factor in axis)
    free = sum(factor.size is None for factor in axis)
    words = " ".join(factor.name for factor in axis)
    if free > 1:
        raise LeafError(name, leaf, f"in {spec!r} give all but one of ({words}) a size")
    if length != known and (not free or length % known):
        problem = f"in {spec!r} the sizes of {words!r} make {known}, its axis has {length}"
        raise LeafError(name, leaf, problem)
    return [length // known if factor.size is None else factor.size for factor in axis]


def _divided(size: int, factor: Factor, spec: str, name: str, leaf: Any) -> Axes:
    """The lengths of the parts of an axis."""
    known = [part for part in factor.parts if part is not None]
    count = len(factor.parts)
    if known and sum(known) != size:
        problem = f"in {spec!r} the parts of {factor.name!r} make {sum(known)}, not {size}"
        raise LeafError(name, leaf, problem)
    if not known and size % count:
        problem = f"in {spec!r} {size} cannot be {count} equal parts; give each a size"
        raise LeafError(name, leaf, problem)
    return tuple(known) or (size // count,) * count
