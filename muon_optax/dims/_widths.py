"""The widths between layers: the outputs of one layer are the inputs of the next.

A layer whose outputs no other layer takes is an output layer or the table of an embedding.
"""

import re
from collections import defaultdict
from collections.abc import Iterable, Mapping

from muon_optax.dims._assignment import Assignment
from muon_optax.dims._rules import EXCLUDED
from muon_optax.dims._view import Axes, MatrixView

# A layer may take only a part of another layer's outputs, such as one of eight gates or nine
# modulations; or it may take several copies of these outputs.
_MOST_PARTS = 9
ROLES_OF_THE_ENDS = ("embedding", "table", "output head")  # a user's rule may say so
MAX_RATIO = 20  # of the sides of a matrix; a table may have more rows
SHORTEST_PART = 16  # shorter widths divide others by chance


class Widths:
    """The widths that the layers of a tree take (inputs) and give (outputs), with their paths.

    Attributes:
      tables: The path of each table, by its number of rows.
      tables_by_shape: The path of each table, by its rows and columns.
      heads: How many outputs each output head has.
    """

    def __init__(self, assignments: Iterable[Assignment], shapes: Mapping[str, Axes | None]):
        self._taken: dict[int, set[str]] = defaultdict(set)
        self._given: dict[int, set[str]] = defaultdict(set)
        self._channels: set[int] = set()  # taken by convolutions
        self._images: set[int] = set()  # channels given by convolutions
        self.tables: dict[int, str] = {}
        self.tables_by_shape: dict[Axes, str] = {}
        self.heads: set[int] = set()
        self._ends = min(shapes), max(shapes)  # a module above both is above all leaves
        for path, view, rule, *_ in assignments:
            shape = shapes[path] or ()
            if view is not None and rule is not None and "convolution" in rule.role:
                self._add_convolution(path, view)
            elif view is not None:
                self._add_matrix(path, view)
            elif len(shape) > 1 and rule is not None and rule.role == "output head":
                taken, given = head_ends(path, shape)
                self._add(self._taken, path, (taken,))
                self.heads.add(given)
            elif len(shape) > 1 and rule is not None and rule.role in ("embedding", "table"):
                if "pos" not in path:
                    self.tables[shape[-2]] = path
                    self.tables_by_shape[shape[-2:]] = path
                self._add(self._given, path, shape[-1:])
            elif len(shape) == 2 and rule is not None and rule.role == EXCLUDED:
                # It takes one of its axes, and not the long one if that is a table's.
                table = min(shape) >= SHORTEST_PART and max(shape) > MAX_RATIO * min(shape)
                self._add(self._taken, path, (min(shape),) if table else shape)
            elif shape and re.search(r"(scale|gamma)$|norm(?!al)", path, re.IGNORECASE):
                lengths = shape[-1:] if len(shape) <= 2 else shape  # of images: any axis
                self._add(self._taken, path, lengths)
                self._add(self._given, path, lengths)

    def _add(self, widths: dict[int, set[str]], path: str, lengths: Iterable[int]) -> None:
        for length in lengths:
            widths[length].add(path)

    def _add_matrix(self, path: str, view: MatrixView) -> None:
        for _, fan_in, fan_out in view.sides:
            self._add(self._taken, path, (fan_in,))
            self._add(self._given, path, (fan_out,))
        if len(view.output) > 1:  # the depth of heads, which may be a norm's length
            self._add(self._given, path, (view.shape[view.output[-1]],))

    def _add_convolution(self, path: str, view: MatrixView) -> None:
        fan_in, fan_out = ends(view)
        self._add(self._taken, path, (fan_in,))
        self._add(self._given, path, (fan_out,))
        self._channels.add(fan_in)
        self._images.add(fan_out)

    def num_takers(self, width: int, path: str) -> int:
        """Return the number of other leaves that take exactly this width."""
        return len(self._taken[width] - {path})

    def is_taken(self, width: int, path: str) -> bool:
        """Whether another leaf takes this width or a part of it."""
        return any(
            other == width or (_is_multiple(width, other) and width // other <= _MOST_PARTS)
            for other, paths in self._taken.items()
            if not paths <= {path}
        )

    def is_joined(self, width: int, path: str) -> bool:
        """Whether another leaf takes a multiple of this width, or its sum with another."""
        return self.is_added(width, path) or any(
            _is_multiple(other, width)
            for other, paths in self._taken.items()
            if not paths <= {path}
        )

    def is_added(self, width: int, path: str) -> bool:
        """Whether another leaf takes the sum of this width and another given width."""
        return any(
            other > width and not self._given.get(other - width, set()) <= {path}
            for other, paths in self._taken.items()
            if not paths <= {path}
        )

    def is_used(self, width: int, path: str) -> bool:
        """Whether another leaf takes this width in any of these ways."""
        return self.is_taken(width, path) or self.is_joined(width, path)

    def is_the_models_input(
        self, width: int, fan_in: int, path: str, within: Iterable[str] = ()
    ) -> bool:
        """Whether `width` is an input of the model: only layers that lead to this leaf take it.

        If some of these layers are in the leaf's own module, one of them has to be in `within`.
        """
        first = self._taken[width] - {path}
        # Several layers of one module may give this width, such as a mean and a scale.
        module = "/".join([*path.split("/")[:-2], ""])
        module = path if all(end.startswith(module) for end in self._ends) else module
        inside = {other for other in first | self._given[width] if other.startswith(module)}
        if (
            not first
            or (first & inside and first.isdisjoint(within))
            or self._given[width] - inside
        ):
            return False
        reached = {other for other, paths in self._given.items() if paths & first}
        while not any(_is_multiple(fan_in, other) for other in reached):
            more = self._next(reached, path) | reached
            if more == reached:
                return False
            reached = more
        return True

    def _next(self, widths: Iterable[int], path: str) -> set[int]:
        """Return the numbers of outputs of the layers that take these widths."""
        takers = set().union(
            *(
                self._taken[taken]
                for taken in self._taken
                for w in widths
                if _is_multiple(taken, w)
            )
        )
        return {width for width, paths in self._given.items() if paths & (takers - {path})}

    def may_be_an_image(self, width: int) -> bool:
        """Whether a convolution may take this width as its channels times pixels."""
        return any(_is_multiple(width, channels) for channels in self._channels)

    def is_given(self, width: int, path: str) -> bool:
        """Whether another leaf gives this width, a multiple of it, or an image to flatten."""
        return any(
            other == width
            or (other in self._images and _is_multiple(width, other))
            or (_is_multiple(other, width) and other // width <= _MOST_PARTS)
            for other, paths in self._given.items()
            if not paths <= {path}
        )


def _is_multiple(large: int, small: int) -> bool:
    return large == small or (small >= SHORTEST_PART and large % small == 0)


def channels(view: MatrixView) -> int:
    """Return the number of input channels of a convolution; its other input axes are spatial.

    The channels are the input axis next to the outputs. If input axes stand before and after
    the outputs, the channels are where fewer of them stand.
    """
    before = sum(axis < view.output[0] for axis in view.reduction)
    first, last = view.shape[view.reduction[0]], view.shape[view.reduction[-1]]
    if 2 * before == len(view.reduction):  # transposed, with one spatial axis, a short one
        return max(first, last)
    return first if 2 * before < len(view.reduction) else last


def ends(view: MatrixView) -> tuple[int, int]:
    """Return the widths that a layer takes and gives; for a convolution, its channels."""
    _, fan_in, fan_out = view.sides[0]
    return (channels(view) if len(view.reduction) > 1 else fan_in), fan_out


def head_ends(path: str, shape: Axes) -> tuple[int, int]:
    """Return the widths that an output head takes and gives; a `weight` has outputs first."""
    first, last = shape[0], shape[-1]
    if re.search(r"weight(/0)?$", path):
        return shape[1], first
    return shape[-2], last
