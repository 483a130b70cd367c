"""What the leaves of a tree say of one another, after the rules have been tried."""

from collections import Counter
from collections.abc import Sequence

from muon_optax._ranges import without_numbers
from muon_optax.dims._assignment import Assignment
from muon_optax.dims._consistency import Neighbours
from muon_optax.dims._view import Axes, MatrixView
from muon_optax.dims._widths import Widths

_LAYERS = 3  # so many equal leaves are in layers of the model


class Tree:
    """The leaves by path, their shapes, and the widths that they pass to one another."""

    def __init__(self, assignments: Sequence[Assignment], neighbours: Neighbours):
        self.assignments = {found.path: found for found in assignments}
        self.neighbours = neighbours
        self.shapes = neighbours.shapes
        self.widths = Widths(assignments, neighbours.shapes)
        self._alike = Counter(_kind(found.path, found.view) for found in assignments)

    def is_repeated(self, path: str, view: MatrixView) -> bool:
        """Whether layer after layer has such a leaf, which then is no output of the model."""
        return self._alike[_kind(path, view)] >= _LAYERS

    def equal_layers(self, path: str) -> list[str]:
        """The other leaves whose paths differ from this one only in numbers."""
        kind = without_numbers(path)
        return [p for p in self.shapes if p != path and without_numbers(p) == kind]


def _kind(path: str, view: MatrixView | None) -> tuple[str, Axes]:
    """What leaves of equal layers have in common."""
    return without_numbers(path), view.shape if view else ()
