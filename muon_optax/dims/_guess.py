"""The axes of a kernel that matches no rule, guessed from the other leaves of its tree.

>>> leaves = Neighbours({"norm/scale": (64,), "mix/kernel": (4, 16, 64)})
>>> guess_spec("mix/kernel", leaves)
'in in out'
"""

from muon_optax.dims._consistency import QUERY, Neighbours, first_kernel, layer_of
from muon_optax.dims._view import Axes

_LARGEST_KERNEL = 16  # pixels; no window of a convolution is longer


def spec_by_bias(name: str, neighbours: Neighbours) -> str | None:
    """Return the spec of a kernel if its bias shows which axes are outputs, else None."""
    bias, shape = neighbours.bias(name), neighbours.shapes[name]
    if not bias or not shape or len(bias) >= len(shape):
        return None
    readings = set()
    for num_batch in range(len(bias)):
        batch, output = bias[:num_batch], bias[num_batch:]
        num_in = len(shape) - len(bias)
        if shape[:num_batch] != batch:
            continue
        rest = shape[num_batch:]
        if rest[num_in:] == output:
            readings.add(_spec(num_batch, ["in"] * num_in + ["out"] * len(output)))
        elif rest[: len(output)] == output:
            readings.add(_spec(num_batch, ["out"] * len(output) + ["in"] * num_in))
        elif len(rest) > 2 and rest[-2:-1] == output:  # a transposed convolution
            readings.add(_spec(num_batch, ["in"] * (num_in - 1) + ["out", "in"]))
    return readings.pop() if len(readings) == 1 else None


def spec_by_places(shape: Axes) -> str | None:
    """Return the spec of a convolution with a square window; None for any other shape."""
    places = shape[:-2]
    square = len(set(places)) == 1 and places[0] <= _LARGEST_KERNEL
    return (
        " ".join(["in"] * len(places) + ["in", "out"]) if len(places) > 1 and square else None
    )


def spec_by_query(name: str, neighbours: Neighbours) -> str | None:
    """Return the spec of an attention output if its heads match the query, else None."""
    shape = neighbours.shapes[name]
    query = first_kernel(layer_of(name), QUERY, neighbours)
    if not shape or not query or len(shape) < 3 or len(query) != len(shape):
        return None
    *batch, width, heads, depth = query
    return "... in in out" if shape == (*batch, heads, depth, width) else None


def guess_spec(name: str, neighbours: Neighbours) -> str | None:
    """Return the most likely spec of a kernel without a rule; None without a hint.

    The model's width is the length of norms and of the rows of embeddings. It is the last axis
    of an attention output, and the first axis of other kernels.
    """
    shape = neighbours.shapes[name]
    if shape is None or len(shape) < 2:
        return None
    if spec := spec_by_bias(name, neighbours):
        return spec
    num_batch = int(_is_stacked(name, shape, neighbours))
    rest = shape[num_batch:]
    if len(rest) == 2:
        return _spec(num_batch, ["in", "out"])
    known = [neighbours.is_model_width(length, but=name) for length in rest]
    if len(rest) > 2 and known[0] != known[-1]:
        inner = "out" if known[0] else "in"
        return _spec(num_batch, ["in", *[inner] * (len(rest) - 2), "out"])
    return None


def _spec(num_batch: int, words: list[str]) -> str:
    return " ".join(["layers", "stack", "group"][:num_batch] + words)


def _is_stacked(name: str, shape: Axes, neighbours: Neighbours) -> bool:
    """Whether the siblings differ in rank, and their first axes all have the same length."""
    others = [neighbours.shapes[other] for other in neighbours.siblings(name)]
    known = [other for other in others if other]
    return (
        len({len(other) for other in known}) > 1
        and len(shape) > 2
        and all(other[0] == shape[0] for other in known)
    )
