"""Knows what the leaves beside a kernel say against a guess of its axes."""

from collections.abc import Mapping
from typing import Any

from muon_optax.dims.view import MatrixView


def contradiction(view: MatrixView, name: str, leaves: Mapping[str, Any]) -> str | None:
    """What speaks against a view, in words.

    Args:
      view: The view that a rule gives of the leaf.
      name: The leaf's path.
      leaves: All leaves by path; an empty mapping knows nothing.

    Returns:
      None where nothing does.
    """
    if name not in leaves:
        return None
    return (
        _of_bias(view, name, leaves) or _of_heads(name, leaves) or _of_stack(view, name, leaves)
    )


def _of_bias(view: MatrixView, name: str, leaves: Mapping[str, Any]) -> str | None:
    """A layer's bias has the batch and the output axes of its kernel."""
    module, _, kind = name.rpartition("kernel")
    bias = leaves.get(f"{module}bias") if not kind else None
    expected = tuple(leaves[name].shape[axis] for axis in view.batch + view.output)
    if bias is None or bias.shape == expected:
        return None
    return f"then its bias would have shape {expected}, not {bias.shape}"


def _of_heads(name: str, leaves: Mapping[str, Any]) -> str | None:
    """`query` is `[in, heads, depth]` where `out` beside it is `[heads, depth, out]`."""
    layer, _, kind = name.rpartition("query/kernel")
    out = leaves.get(f"{layer}out/kernel") if not kind else None
    shape = leaves[name].shape
    if out is None or len(out.shape) != len(shape) or out.shape[-3:-1] == shape[-2:]:
        return None
    return f"then it has heads {shape[-2:]}, and the output beside it {out.shape[-3:-1]}"


def _of_stack(view: MatrixView, name: str, leaves: Mapping[str, Any]) -> str | None:
    """Layers that are stacked all have the stack's axis in front."""
    module, others = name if view.batch else "", []
    while module and not others:
        module = module.rpartition("/")[0]
        inside = f"{module}/" if module else ""
        others = [other for other in leaves if other.startswith(inside) and other != name]
    layers = leaves[name].shape[:1]
    for other in others:
        if leaves[other].shape[:1] != layers:
            return f"then {other!r} beside it would start with {layers[0]} layers, too"
    return None
