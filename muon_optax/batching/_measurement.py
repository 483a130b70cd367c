"""Measurements of every matrix in a polar step, such as its rank."""

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
    """What to measure for every matrix, and whether to measure in this step.

    Attributes:
      due: A boolean scalar. If it is false, all numbers are zeros.
      gradients: One array for each leaf of the polar step.
      function: A hashable function of three stacks `[batch, m, n]` (gradients, matrices and
        polar factors), which returns float32 `[batch, k]`. On a mesh, tall matrices may be
        transposed, and rows and columns may be permuted, in the same way in all three stacks.
    """

    due: Array
    gradients: Sequence[Array]
    function: Callable[[Array, Array, Array], Array]

    def of_leaves(self, positions: Sequence[int]) -> "Measurement":
        """Return the same measurement for some of the leaves."""
        return replace(self, gradients=[self.gradients[i] for i in positions])


def compute_if(condition: Array, function: Callable[[], Any]) -> Any:
    """Return `function()`, or zeros of the same shapes if the condition is false."""
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
    """Measure every leaf's matrices on their device. Return numbers `[batch, k]` per leaf."""

    def measure_leaf(view: MatrixView, g: Array, x: Array, o: Array) -> Array | None:
        stacks = zip(*(view.to_matrices(array) for array in (g, x, o)))
        return jnp.concatenate([measurement.function(*of) for of in stacks]) if x.size else None

    def measure() -> list[Array | None]:
        return [*map(measure_leaf, views, measurement.gradients, leaves, polars)]

    return compute_if(measurement.due, measure)
