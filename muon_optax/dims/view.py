"""Knows the view of an array as `[batch, fan_in, fan_out]`, and whether a spec fits it."""

import math
from typing import Any, NamedTuple

from jax import Array
from optax.contrib import MuonDimensionNumbers

from muon_optax.checks import LeafError

Spec = MuonDimensionNumbers | None
Axes = tuple[int, ...]


class MatrixView(NamedTuple):
    """Which axes of an array are batch, rows and columns; every axis in one of them.

    Attributes:
      batch: The axes along which there is one matrix after another.
      reduction: The axes that a layer sums over; flattened, `fan_in`.
      output: The axes that remain; flattened, `fan_out`.

    Example:
      >>> import jax.numpy as jnp
      >>> view = MatrixView(batch=(0,), reduction=(1,), output=(2, 3))
      >>> x = jnp.ones((5, 32, 4, 8))
      >>> view.sides(x.shape), view.to_matrices(x).shape
      ((5, 32, 32), (5, 32, 32))
    """

    batch: Axes
    reduction: Axes
    output: Axes

    @property
    def spec(self) -> MuonDimensionNumbers:
        """The spec that gives this view."""
        return MuonDimensionNumbers(self.reduction, self.output)

    def sides(self, shape: tuple[int, ...]) -> tuple[int, int, int]:
        """`(batch, fan_in, fan_out)` of an array of that shape."""
        batch, fan_in, fan_out = (math.prod(shape[a] for a in axes) for axes in self)
        return batch, fan_in, fan_out

    def to_matrices(self, x: Array) -> Array:
        """`x` as `[batch, fan_in, fan_out]`; a batch of 1 where no axis is left for it."""
        return x.transpose(sum(self, ())).reshape(self.sides(x.shape))

    def from_matrices(self, matrices: Array, shape: tuple[int, ...]) -> Array:
        """The inverse of `to_matrices` for an array of that shape."""
        order = sum(self, ())
        inverse = sorted(range(len(order)), key=order.__getitem__)
        return matrices.reshape([shape[axis] for axis in order]).transpose(inverse)


def view_of(spec: Spec, name: str, leaf: Any) -> MatrixView | None:
    """The view that a spec gives of a leaf; None for None.

    Args:
      spec: Its spec, or None.
      name: The leaf's path, for the error.
      leaf: An array or a `jax.ShapeDtypeStruct`.

    Returns:
      The view, axes counted from the front.

    Raises:
      LeafError: If the spec names an axis the leaf lacks, one twice, or none for a side.
    """
    if spec is None:
        return None
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
    return MatrixView(batch, reduction, output)
