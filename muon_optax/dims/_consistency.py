"""Knows what the leaves beside a kernel say against a guess of its axes."""

import math
import re
from collections import defaultdict
from collections.abc import Mapping

from muon_optax.dims._view import Axes, MatrixView

_QUERY = ("query", "q", "query_proj", "q_proj")
_OUT = ("out", "o", "out_proj", "o_proj")
_OF_INPUTS = (*_QUERY, "key", "k", "key_proj", "k_proj", "value", "v", "value_proj", "v_proj")
_GATE = "gating_einsum"
_GAIN = re.compile(
    r"(^|[/_])(bias|scale|gamma|beta)$|(norm|(^|/)ln)[^/]*/weight$", re.IGNORECASE
)


class Neighbours:
    """The shapes of all leaves by path, and which leaves share a module.

    Attributes:
      shapes: By path; None where optax has masked a leaf.
    """

    def __init__(self, shapes: Mapping[str, Axes | None]):
        self.shapes = shapes
        self._modules: dict[str, list[str]] = defaultdict(list)
        for name in shapes:
            module = name
            while module:
                module = module.rpartition("/")[0]
                self._modules[module].append(name)

    def beside(self, name: str) -> list[str]:
        """The other leaves of the smallest module that has any."""
        module = name
        while module:
            module = module.rpartition("/")[0]
            if len(self._modules[module]) > 1:
                return [other for other in self._modules[module] if other != name]
        return []


def contradiction(view: MatrixView, name: str, neighbours: Neighbours) -> str | None:
    """What speaks against a view, in words.

    Args:
      view: The view that a rule gives of the leaf.
      name: The leaf's path.
      neighbours: All leaves.

    Returns:
      None where nothing does.
    """
    if neighbours.shapes[name] is None:
        return None
    doubts = (_of_bias, _of_heads, _of_layers, _of_stack)
    if name.endswith(_GATE):
        doubts = (_of_gate,)
    elif view.batch == (1,):
        doubts = (_of_second_axis,)
    return next(filter(None, (doubt(view, name, neighbours) for doubt in doubts)), None)


def _of_bias(view: MatrixView, name: str, neighbours: Neighbours) -> str | None:
    """A layer's bias has the batch and the output axes of its kernel."""
    beside, found = re.subn(r"(kernel|weight)$", "bias", name)
    bias = neighbours.shapes.get(beside) if found else None
    expected = tuple(view.shape[axis] for axis in view.batch + view.output)
    # Equinox's convolutions have a bias [out, 1, 1].
    if bias is None or _without_ones(bias) == _without_ones(expected):
        return None
    return f"then its bias would have shape {expected}, not {bias}"


def _of_heads(view: MatrixView, name: str, neighbours: Neighbours) -> str | None:
    """`query` is `[in, heads, depth]` where `out` beside it is `[heads, depth, out]`."""
    if len(view.reduction + view.output) < 3:
        return None
    layer = re.sub(r"(^|/)[^/]+/kernel$", r"\1", name)
    query, out = (
        next(filter(None, (neighbours.shapes.get(f"{layer}{r}/kernel") for r in roles)), None)
        for roles in (_QUERY, _OUT)
    )
    if not query or not out or len(query) != len(out) or query[-2:] == out[-3:-1]:
        return None
    return f"then its query has heads {query[-2:]}, and its output {out[-3:-1]}"


def _of_layers(view: MatrixView, name: str, neighbours: Neighbours) -> str | None:
    """Where all begin with one length, and not by chance, that is the stack's."""
    if view.batch or len(view.reduction + view.output) < 3:
        return None
    others = {other: neighbours.shapes[other] for other in neighbours.beside(name)}
    shapes = {other: shape for other, shape in others.items() if shape is not None}
    if any(shape[:1] != view.shape[:1] for shape in shapes.values()):
        return None
    for other, shape in shapes.items():
        gain = bool(_GAIN.search(other)) and len(_without_ones(shape)) == 2
        if gain or (len(shape) > 2 and _differ_in_front(name, other)):
            beginning = f"{other!r} beside it begins with {shape[0]} as well"
            return f"{beginning}, like a stack of layers"
    return None


def _differ_in_front(name: str, other: str) -> bool:
    """Whether two kernels of one attention layer begin with axes of different meaning."""
    ours, theirs = (path.split("/")[-2:][0] for path in (name, other))
    if ours in _OF_INPUTS:  # a query's model width, as a key's, but not an output's heads
        return theirs not in _OF_INPUTS
    return ours in _OUT


def _of_gate(view: MatrixView, name: str, neighbours: Neighbours) -> str | None:
    """Gemma's gate, a stack of two, ends where `linear` beside it begins."""
    linear = neighbours.shapes.get(name.removesuffix(_GATE) + "linear")
    output = math.prod(view.shape[axis] for axis in view.output)
    if not linear or linear[-2] == output:
        return None
    return f"then 'linear' beside it would begin with {output}, not with {linear[-2]}"


def _of_stack(view: MatrixView, name: str, neighbours: Neighbours) -> str | None:
    """Layers that are stacked all have the stack's axis in front, and no plain kernel."""
    layers = view.shape[0]
    for other in neighbours.beside(name) if view.batch else []:
        shape = neighbours.shapes[other]
        plain = shape and len(shape) == 2 and other.endswith("kernel")
        if shape and (shape[0] != layers or plain):
            return f"then {other!r} beside it, {shape}, would be {layers} layers, too"
    return None


def _of_second_axis(view: MatrixView, name: str, neighbours: Neighbours) -> str | None:
    """Layers along the second axis are as many in all that stands beside."""
    for other in neighbours.beside(name):
        shape = neighbours.shapes[other]
        if shape and len(shape) > 1 and shape[1] != view.shape[1]:
            return f"then {other!r} beside it, {shape}, would be {view.shape[1]} layers, too"
    return None


def _without_ones(shape: Axes) -> Axes:
    return tuple(length for length in shape if length != 1)
