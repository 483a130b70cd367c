"""Views, which turn an array into stacks of matrices `[batch, fan_in, fan_out]`, and back.

>>> x = jnp.ones((12, 32, 64))
>>> view_of("layers in out", "mlp/kernel", x).sides
((12, 32, 64),)
"""

import math
import operator
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
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
    """How to read an array as matrices: which axes are batch axes, rows and columns.

    Views are hashable. Specs with the same meaning give equal views: `"in out"`,
    `MuonDimensionNumbers(0, 1)` and `MuonDimensionNumbers([-2], [-1])`.

    Attributes:
      spec: The spec of the view, for messages.
      shape: The shape of the array, but with one axis for each factor of a product axis.
      batch: The axes of `shape` with one matrix for each index.
      reduction: The axes of `shape` that the layer sums over. Flattened in this order they are
        the rows of the matrix, `fan_in`.
      output: The remaining axes of `shape`. Flattened they are the columns, `fan_out`.
      divided: The axis of `shape` along which several matrices are concatenated, such as a
        fused query, key and value; usually None.
      parts: The lengths of these matrices along `divided`.

    Example:
      >>> x = jnp.ones((5, 32, 24))
      >>> view = view_of("layers in out[q=16 k=4 v=4]", "qkv", x)
      >>> view.sides
      ((5, 32, 16), (5, 32, 4), (5, 32, 4))
      >>> [stack.shape for stack in view.to_matrices(x)]
      [(5, 32, 16), (5, 32, 4), (5, 32, 4)]
    """

    spec: MuonDimensionNumbers | str = field(compare=False)
    shape: Axes
    batch: Axes
    reduction: Axes
    output: Axes
    divided: int | None = None
    parts: Axes = ()

    @property
    def sides(self) -> tuple[tuple[int, int, int], ...]:
        """`(batch, fan_in, fan_out)` of each stack; one stack for each part."""
        return tuple(
            (
                math.prod(shape[axis] for axis in self.batch),
                math.prod(shape[axis] for axis in self.reduction),
                math.prod(shape[axis] for axis in self.output),
            )
            for shape in self._part_shapes
        )

    @property
    def is_reshape(self) -> bool:
        """Whether the matrices are one stack that is a mere reshape of the array."""
        return self.divided is None and self._order == tuple(range(len(self.shape)))

    def to_matrices(self, x: Array) -> list[Array]:
        """Return an array's stacks `[batch, fan_in, fan_out]`; batch is 1 for one matrix."""
        pieces = [x.reshape(self.shape)]
        if self.divided is not None:
            pieces = jnp.split(pieces[0], np.cumsum(self.parts)[:-1], self.divided)
        return [
            piece.transpose(self._order).reshape(sides)
            for piece, sides in zip(pieces, self.sides)
        ]

    def from_matrices(self, stacks: Sequence[Array], shape: Axes) -> Array:
        """Invert `to_matrices`, and return an array of this shape."""
        order = self._order
        pieces = [
            stack.reshape([piece[axis] for axis in order]).transpose(np.argsort(order).tolist())
            for stack, piece in zip(stacks, self._part_shapes)
        ]
        if self.divided is not None:
            pieces = [jnp.concatenate(pieces, self.divided)]
        return pieces[0].reshape(shape)

    def in_place(self) -> "MatrixView":
        """Return the view of the transposes if that is a mere reshape, else this view."""
        transposed = self.batch + self.output + self.reduction
        if transposed != tuple(range(len(self.shape))):
            return self
        return replace(self, reduction=self.output, output=self.reduction)

    def factors(self, shape: Axes) -> list[Axes]:
        """Return, for each axis of an array of this shape, the view's axes that make it up."""
        groups, start = [], 0
        for length in shape:
            stop = start + 1
            while stop < len(self.shape) and math.prod(self.shape[start:stop]) < length:
                stop += 1
            groups.append(tuple(range(start, stop)))
            start = stop
        return groups

    def broadcast_to_parts(self, values: Sequence[float], shape: Axes) -> np.ndarray:
        """Return the parts' values, repeated to broadcast against an array of `shape`."""
        along = [size if axis == self.divided else 1 for axis, size in enumerate(self.shape)]
        repeated = np.repeat(values, self.parts).reshape(along)
        lengths, sizes = [1] * len(self.shape), []
        for group, size in zip(self.factors(shape), shape):
            if self.divided not in group:
                sizes.append(1)
                continue
            sizes.append(size)
            for axis in group:
                lengths[axis] = self.shape[axis]
        return np.broadcast_to(repeated, lengths).reshape(sizes)

    @property
    def _order(self) -> Axes:
        return self.batch + self.reduction + self.output

    @property
    def _part_shapes(self) -> list[Axes]:
        """The shape of each part of the array; one shape if it is not divided."""
        if self.divided is None:
            return [self.shape]
        before, after = self.shape[: self.divided], self.shape[self.divided + 1 :]
        return [(*before, part, *after) for part in self.parts]


def view_of(spec: Spec, name: str, leaf: Any) -> MatrixView | None:
    """Return the view of an array or `jax.ShapeDtypeStruct` by a spec; None if that is None.

    Raises a `LeafError` if the spec does not fit the leaf, and a `SpecError` if a string cannot
    be read.
    """
    if spec is None:
        return None
    if isinstance(spec, str):
        return _view_of_names(spec, name, leaf)
    return _view_of_numbers(spec, name, leaf)


def is_numbers(spec: Any) -> bool:
    """Whether a spec is a `MuonDimensionNumbers`: Optax's, or another library's copy."""
    return hasattr(spec, "reduction_axis") and hasattr(spec, "output_axis")


def _view_of_numbers(spec: MuonDimensionNumbers, name: str, leaf: Any) -> MatrixView:
    shape = tuple(leaf.shape)
    ndim = len(shape)
    reduction = _axis_numbers(spec.reduction_axis, spec, name, leaf)
    output = _axis_numbers(spec.output_axis, spec, name, leaf)
    if ndim < 2 or not all(-ndim <= axis < ndim for axis in reduction + output):
        raise LeafError(
            name,
            leaf,
            f"{spec} names axes that do not exist; use None if the leaf is not a matrix",
        )
    reduction = tuple(axis % ndim for axis in reduction)
    output = tuple(axis % ndim for axis in output)
    named = reduction + output
    if not reduction or not output or len(set(named)) < len(named):
        raise LeafError(
            name,
            leaf,
            f"{spec} must name at least one reduction axis and one output axis, and none twice",
        )
    batch = tuple(axis for axis in range(ndim) if axis not in named)
    return MatrixView(spec, shape, batch, reduction, output)


def _axis_numbers(axes: Any, spec: MuonDimensionNumbers, name: str, leaf: Any) -> Axes:
    """Return a number, or a sequence of numbers, as a tuple of ints."""
    try:
        sequence = axes if np.ndim(axes) else (axes,)
        return tuple(operator.index(axis) for axis in sequence)
    except TypeError:
        problem = f"{spec} must name its axes by integers or by tuples of integers"
        raise LeafError(name, leaf, problem) from None


def _view_of_names(spec: str, name: str, leaf: Any) -> MatrixView:
    names = parse(spec, f"leaf {name!r}")
    if not names.fits(len(leaf.shape)):
        count = f"at least {len(names.axes)}" if names.leading else len(names.axes)
        problem = f"{spec!r} is for {count} axes; write one word for each axis"
        raise LeafError(name, leaf, problem)
    leading = len(leaf.shape) - len(names.axes)
    shape, factors = list(leaf.shape[:leading]), [Factor("", None, (), 0)] * leading
    divided, parts = None, ()
    for length, axis in zip(leaf.shape[leading:], names.axes):
        for factor, size in zip(axis, _factor_sizes(length, axis, spec, name, leaf)):
            if factor.parts:
                divided = len(shape)
                parts = _part_sizes(size, factor, spec, name, leaf)
            shape.append(size)
            factors.append(factor)
    axes = {"in": [], "out": [], "batch": []}
    for position, factor in enumerate(factors):
        side = factor.name if factor.name in ("in", "out") else "batch"
        axes[side].append(position)
    batch, reduction, output = tuple(axes["batch"]), tuple(axes["in"]), tuple(axes["out"])
    return MatrixView(spec, tuple(shape), batch, reduction, output, divided, parts)


def _factor_sizes(
    length: int, axis: tuple[Factor, ...], spec: str, name: str, leaf: Any
) -> list[int]:
    """Return the sizes of an axis' factors; one size may follow from the axis' length."""
    known = math.prod(factor.size or 1 for factor in axis)
    free = sum(factor.size is None for factor in axis)
    words = " ".join(factor.name for factor in axis)
    if free > 1:
        raise LeafError(name, leaf, f"in {spec!r}, give a size to all but one of ({words})")
    if length != known and (not free or length % known):
        problem = (
            f"in {spec!r}, the sizes of {words!r} make {known}, but the axis has length "
            f"{length}"
        )
        raise LeafError(name, leaf, problem)
    return [length // known if factor.size is None else factor.size for factor in axis]


def _part_sizes(size: int, factor: Factor, spec: str, name: str, leaf: Any) -> Axes:
    """Return the lengths of the parts of an axis."""
    known = tuple(part for part in factor.parts if part is not None)
    count = len(factor.parts)
    if known and sum(known) != size:
        problem = (
            f"in {spec!r}, the parts of {factor.name!r} add up to {sum(known)}, not {size}"
        )
        raise LeafError(name, leaf, problem)
    if not known and size % count:
        problem = (
            f"in {spec!r}, length {size} is not divisible by {count}; give each part a size"
        )
        raise LeafError(name, leaf, problem)
    return known or (size // count,) * count
