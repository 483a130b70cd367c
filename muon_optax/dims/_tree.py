"""The leaves of a tree after the rules have been applied, for checks across leaves."""

from collections import Counter, defaultdict
from collections.abc import Sequence

from muon_optax._ranges import numbers_of, without_numbers
from muon_optax.dims._assignment import Assignment
from muon_optax.dims._consistency import Neighbours
from muon_optax.dims._view import Axes, MatrixView
from muon_optax.dims._widths import Widths, channels

_LAYERS = 3  # a leaf that occurs at least this often belongs to repeated layers


class Tree:
    """The leaves by path, their shapes, and the widths that connect them.

    `in_model` has each leaf's role in the model, even if the user sends it to the fallback.
    """

    def __init__(
        self,
        assignments: Sequence[Assignment],
        in_model: Sequence[Assignment],
        neighbours: Neighbours,
    ):
        self.update(assignments)
        self.neighbours = neighbours
        self.shapes = neighbours.shapes
        self.widths = Widths(in_model, neighbours.shapes)
        self._alike = Counter(_kind(found.path, found.view) for found in assignments)
        self._layers: dict[str, list[str]] = defaultdict(list)
        for path in sorted(self.shapes, key=numbers_of):
            self._layers[without_numbers(path)].append(path)

    def update(self, assignments: Sequence[Assignment]) -> None:
        """Replace the assignments; the widths do not change."""
        self.assignments = {found.path: found for found in assignments}
        self.one_channel = {
            found.path: found.view
            for found in assignments
            if found.view and found.rule and "convolution" in found.rule.role
            if channels(found.view) == 1
        }

    def is_repeated(self, path: str, view: MatrixView) -> bool:
        """Whether the leaf belongs to repeated layers, so it is not an output of the model."""
        return self._alike[_kind(path, view)] >= _LAYERS

    def equal_layers(self, path: str) -> list[str]:
        """Return this path and all that differ from it only in numbers, in order."""
        return self._layers[without_numbers(path)]

    def is_last_number(self, path: str) -> bool:
        """Whether the leaf is the last of several equal layers."""
        return len(layers := self.equal_layers(path)) > 1 and layers[-1] == path


def _kind(path: str, view: MatrixView | None) -> tuple[str, Axes]:
    """Return what the leaves of equal layers have in common."""
    return without_numbers(path), view.shape if view else ()
