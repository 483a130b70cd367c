"""The interface of maps: from the leaves of a tree to polar factors and measurements."""

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
        """Return polar factors in the leaves' shapes and dtypes, momenta, and measurements.

        `momenta` has an array, or None, for each leaf. These arrays are written in the pass
        over memory that reads the leaves. A leaf's measurements are numbers `[batch, k]` on
        every device. They are None without `measurement`, and for an empty leaf.
        """
        ...
