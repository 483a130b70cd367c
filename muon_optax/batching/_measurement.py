"""Numbers of every matrix, such as its rank, that a caller wants of a polar step."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
from jax import Array, lax

from muon_optax.dims import MatrixView


@partial(
    jax.tree_util.register_dataclass,
    data_fields=("due", "gradients"),
    meta_fields=("function",),
)
@dataclass(frozen=True)
class Measurement:
    """What to measure of every matrix, and whether to.

    Attributes:
      due: A boolean scalar; numbers are zeros where it is false.
      gradients: One array for each leaf of the polar step.
      function: From stacks `[batch, m, n]` of gradients, of matrices and of their polar factors
        to float32 `[batch, k]`; hashable, and equal ones share a compiled program. On a mesh
        it gets tall matrices as wide ones, with rows and columns in another order, the same
        for all three.
    """

    due: Array
    gradients: Sequence[Array]
    function: Callable[[Array, Array, Array], Array]

    def of_leaves(self, positions: Sequence[int]) -> "Measurement":
        """The same of some leaves only."""
        return replace(self, gradients=[self.gradients[i] for i in positions])


def compute_if(condition: Array, function: Callable[[], Any]) -> Any:
    """`function()`, or zeros of its shapes where the condition is false."""
    shapes = jax.eval_shape(function)
    zeros = lambda: jax.tree.map(lambda x: jnp.zeros(x.shape, x.dtype), shapes)
    return lax.cond(condition, function, zeros)


@partial(jax.jit, static_argnums=0)
def measure_leaves(
    views: tuple[MatrixView, ...],
    measurement: Measurement,
    leaves: Sequence[Array],
    polars: Sequence[Array],
) -> list[Array | None]:
    """The numbers of every leaf's matrices, `[batch, k]`, on the device where these are."""

    def measure_leaf(view: MatrixView, g: Array, x: Array, o: Array) -> Array | None:
        stacks = zip(*(view.to_matrices(array) for array in (g, x, o)))
        return jnp.concatenate([measurement.function(*of) for of in stacks]) if x.size else None

    def measure() -> list[Array | None]:
        return [*map(measure_leaf, views, measurement.gradients, leaves, polars)]

    return compute_if(measurement.due, measure)
