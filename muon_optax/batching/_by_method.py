"""One map made of several, each with its own method and leaves."""

from collections.abc import Sequence
from dataclasses import dataclass

from jax import Array

from muon_optax.batching._map import MatrixMap
from muon_optax.batching._measurement import Measurement
from muon_optax.dims import MatrixView


@dataclass(frozen=True)
class MapByMethod:
    """Several maps, each with the positions of its leaves."""

    maps: Sequence[tuple[MatrixMap, Sequence[int]]]

    def map(
        self,
        leaves: Sequence[Array],
        views: Sequence[MatrixView],
        momenta: Sequence[Array | None],
        measurement: Measurement | None = None,
    ) -> tuple[list[Array], list[Array | None], list[Array | None]]:
        """Return polar factors in the leaves' shapes and dtypes, momenta, and measurements."""
        polars, written = list(leaves), list(momenta)
        numbers: list[Array | None] = [None] * len(leaves)
        for matrix_map, positions in self.maps:
            found = matrix_map.map(
                [leaves[i] for i in positions],
                [views[i] for i in positions],
                [momenta[i] for i in positions],
                measurement and measurement.of_leaves(positions),
            )
            for i, polar, momentum, number in zip(positions, *found):
                polars[i], written[i], numbers[i] = polar, momentum, number
        return polars, written, numbers
