"""Knows what the leaves beside a kernel say against a guess of its axes."""

import math
import re
from collections.abc import Mapping

from muon_optax.dims.view import MatrixView

Shapes = Mapping[str, tuple[int, ...] | None]  # by path; None where optax has masked a leaf

_QUERY = ("query", "q", "query_proj", "q_proj")
_GATE = "gating_einsum"
_OUT = ("out", "o", "out_proj", "o_proj")


def contradiction(view: MatrixView, name: str, shapes: Shapes) -> str | None:
    """What speaks against a view, in words.

    Args:
      view: The view that a rule gives of the leaf.
      name: The leaf's path.
      shapes: The shapes of all leaves.

    Returns:
      None where nothing does.
    """
    doubts = (_of_gate,) if name.endswith(_GATE) else (_of_bias, _of_heads, _of_stack)
    return next(filter(None, (doubt(view, name, shapes) for doubt in doubts)), None)


def _of_bias(view: MatrixView, name: str, shapes: Shapes) -> str | None:
    """A layer's bias has the batch and the output axes of its kernel."""
    beside, found = re.subn(r"(kernel|weight)$", "bias", name)
    bias, shape = shapes.get(beside) if found else None, shapes[name] or ()
    expected = tuple(shape[axis] for axis in view.batch + view.output)
    # Equinox's convolutions have a bias [out, 1, 1].
    if bias is None or _without_ones(bias) == _without_ones(expected):
        return None
    return f"then its bias would have shape {expected}, not {bias}"


def _of_heads(view: MatrixView, name: str, shapes: Shapes) -> str | None:
    """`query` is `[in, heads, depth]` where `out` beside it is `[heads, depth, out]`."""
    if len(view.reduction + view.output) < 3:
        return None
    layer = re.sub(r"(^|/)[^/]+/kernel$", r"\1", name)
    query, out = (
        next(filter(None, (shapes.get(f"{layer}{role}/kernel") for role in roles)), None)
        for roles in (_QUERY, _OUT)
    )
    if not query or not out or len(query) != len(out) or query[-2:] == out[-3:-1]:
        return None
    return f"then its query has heads {query[-2:]}, and its output {out[-3:-1]}"


def _of_gate(view: MatrixView, name: str, shapes: Shapes) -> str | None:
    """Gemma's gate, a stack of two, ends where `linear` beside it begins."""
    linear, shape = shapes.get(name.removesuffix(_GATE) + "linear"), shapes[name] or ()
    output = math.prod(shape[axis] for axis in view.output)
    if not linear or linear[-2] == output:
        return None
    return f"then 'linear' beside it would begin with {output}, not with {linear[-2]}"


def _of_stack(view: MatrixView, name: str, shapes: Shapes) -> str | None:
    """Layers that are stacked all have the stack's axis in front, and no plain kernel."""
    module, others = name if view.batch else "", []
    while module and not others:
        module = module.rpartition("/")[0]
        inside = f"{module}/" if module else ""
        others = [other for other in shapes if other.startswith(inside) and other != name]
    layers = (shapes[name] or (0,))[0]
    for other in others:
        shape = shapes[other]
        plain = shape and len(shape) == 2 and other.endswith("kernel")
        if shape is not None and (shape[:1] != (layers,) or plain):
            return f"then {other!r} beside it, {shape}, would be {layers} layers, too"
    return None


def _without_ones(shape: tuple[int, ...]) -> tuple[int, ...]:
    return tuple(length for length in shape if length != 1)
