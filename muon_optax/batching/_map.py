"""The interface of maps, from the leaves of a tree to polar factors, momenta and numbers."""

from collections.abc import Sequence
from typing import Protocol

from jax import Array

from muon_optax.batching._measurement import Measurement
from muon_optax.dims import MatrixView


class MatrixMap(Protocol):
    """A polar method for the matrices of many leaves."""

    def map(
        self,
        leaves: Sequence[Array],
        views: Sequence[MatrixView],
        momenta: Sequence[Array | None],
        measurement: Measurement | None = None,
    ) -> tuple[list[Array], list[Array | None], list[Array | None]]:
        """The polar factors, in the leaves' shapes and dtypes; the momenta; and the numbers.

        `momenta` are arrays to write in the pass over memory that reads the leaves, one or None
        for each leaf. The numbers are a measurement's results for each leaf, `[batch, k]` on
        every device; None without a measurement or for an empty leaf.
        """
        ...
