"""Contradictions between the guessed view of a leaf and the other leaves of its module.

A kernel `[12, 32, 64]` may be one layer or a stack of twelve layers. Its bias tells which.

>>> import jax.numpy as jnp
>>> from muon_optax.dims._view import view_of
>>> view = view_of("in out out", "dense/kernel", jnp.ones((12, 32, 64)))
>>> leaves = Neighbours({"dense/kernel": (12, 32, 64), "dense/bias": (12, 64)})
>>> find_contradiction(view, "dense/kernel", leaves)
'its bias would have shape (32, 64), but it has shape (12, 64)'
"""

import functools
import math
import re
from collections import defaultdict
from collections.abc import Mapping, Sequence

from muon_optax.dims._names import looks_like_adapter, plain_name
from muon_optax.dims._view import Axes, MatrixView

QUERY = ("query", "q", "query_proj", "q_proj")
_OUT = ("out", "o", "out_proj", "o_proj", "output")
_INPUTS = (
    *QUERY,
    "key",
    "k",
    "key_proj",
    "k_proj",
    "value",
    "v",
    "value_proj",
    "v_proj",
    "gating",
)
_GATE = "gating_einsum"
_GAIN = re.compile(
    r"(^|[/_])(bias|scale|gamma|beta)$|(norm|(^|/)ln)[^/]*/weight$", re.IGNORECASE
)


class Neighbours:
    """The shapes of all leaves by path, and which leaves share a module.

    The shape of a masked leaf is None. `names` maps each path, such as `a.b`, to the name that
    all methods take: the path with slashes, `a/b`.
    """

    def __init__(self, shapes: Mapping[str, Axes | None]):
        self.names = {path: path.replace(".", "/") for path in shapes}
        if len(set(self.names.values())) < len(shapes):
            self.names = {path: path for path in shapes}
        self.shapes = {self.names[path]: shape for path, shape in shapes.items()}
        self._plain = {plain_name(name): shape for name, shape in self.shapes.items()}
        self._modules: dict[str, list[str]] = defaultdict(list)
        for name in self.shapes:
            for module in _modules_above(name):
                self._modules[module].append(name)

    def leaves_in(self, module: str) -> list[str]:
        """Return the paths of the leaves of a module."""
        return self._modules[module]

    def siblings(self, name: str) -> list[str]:
        """Return the other leaves of the innermost module that has any besides this one."""
        for module in _modules_above(name):
            if len(self._modules[module]) > 1:
                return [other for other in self._modules[module] if other != name]
        return []

    def bias(self, name: str) -> Axes | None:
        """Return the shape of a kernel's bias; None if the kernel has no bias."""
        name = plain_name(name)
        for kernel, bias in (
            (r"(kernel|weights?|w)(/0)?$", r"bias\2"),
            (r"(^|(?<=/))w$", "b"),
        ):
            other = re.sub(kernel, bias, name)
            if other != name and other in self._plain:
                return self._plain[other]
        return None

    def gain_after(self, name: str) -> Axes | None:
        """Return the next gain's shape in PyTorch's `Sequential`: `1/weight` for `0/weight`."""
        next_one = lambda number: str(int(number[0]) + 1)
        shape = self._plain.get(re.sub(r"\d+(?=/weight$)", next_one, plain_name(name)))
        return shape if shape and len(shape) == 1 else None

    def kernel(self, module: str) -> Axes | None:
        """Return the shape of a module's kernel, under any of the usual names."""
        for name in ("kernel", "weights", "w", "Linear/weights"):
            if shape := self._plain.get(f"{module}/{name}"):
                return shape
        return None

    def is_model_width(self, length: int, but: str) -> bool:
        """Whether a norm or an embedding's rows, except those of `but`, have this length."""
        return bool(self._model_widths[length] - {but})

    @functools.cached_property
    def _model_widths(self) -> dict[int, set[str]]:
        found = defaultdict(set)
        for name, shape in self.shapes.items():
            if shape and re.search(r"norm(?!al)|(^|/)ln|scale$|embed", name, re.IGNORECASE):
                found[shape[-1]].add(name)
        return found


def _modules_above(name: str) -> list[str]:
    """Return the modules that contain a leaf: `a/b`, `a` and `""` for the path `a/b/c`."""
    modules = []
    while name:
        name = name.rpartition("/")[0]
        modules.append(name)
    return modules


def find_contradiction(
    view: MatrixView | None, name: str, neighbours: Neighbours
) -> str | None:
    """Return the reason why other leaves contradict a guess; None if they do not."""
    if neighbours.shapes[name] is None:
        return None
    if view is None:
        return _check_table(name, neighbours)
    if name.endswith(_GATE):
        checks = (_check_gate,)
    elif view.batch == (1,):
        checks = (_check_second_axis,)
    else:
        checks = (
            _check_bias,
            _check_width,
            _check_heads,
            _check_layers,
            _check_stack,
            _check_experts,
        )
    for check in checks:
        if problem := check(view, name, neighbours):
            return problem
    return None


def _check_table(name: str, neighbours: Neighbours) -> str | None:
    """Check that a table has no bias, and that its rows have the model's width."""
    if neighbours.bias(name):
        return "it has a bias, unlike a table"
    shape = neighbours.shapes[name]
    if name.endswith("weight") and shape and len(shape) == 2:
        rows, width = (neighbours.is_model_width(length, but=name) for length in shape)
        if rows and not width:
            return f"the model's width, {shape[0]}, is its number of rows, not of columns"
    return None


def _check_bias(view: MatrixView, name: str, neighbours: Neighbours) -> str | None:
    """Check that the bias has the batch axes and the output axes of the kernel."""
    bias = neighbours.bias(name)
    if bias is None and len(view.reduction) > 1:
        bias = neighbours.gain_after(name)
    expected = tuple(view.shape[axis] for axis in view.batch + view.output)
    # Equinox's convolutions have a bias [out, 1, 1].
    if bias is None or _without_ones(bias) == _without_ones(expected):
        return None
    return f"its bias would have shape {expected}, but it has shape {bias}"


def _check_width(view: MatrixView, name: str, neighbours: Neighbours) -> str | None:
    """Check that the inputs of a query, key or value have the model's width."""
    if len(view.reduction) != 1 or len(view.output) != 2 or not name.endswith("kernel"):
        return None
    taken = view.shape[view.reduction[0]]
    given = [view.shape[axis] for axis in view.output]
    known = lambda length: neighbours.is_model_width(length, but=name)
    if not known(taken) and any(map(known, given)):
        return f"it would have {taken} inputs, which is not the model's width"
    return None


def _check_heads(view: MatrixView, name: str, neighbours: Neighbours) -> str | None:
    """Check that `query` is `[in, heads, depth]` and `out` is `[heads, depth, out]`."""
    if len(view.reduction + view.output) < 3:
        return None
    layer = layer_of(name)
    query = first_kernel(layer, QUERY, neighbours)
    out = first_kernel(layer, _OUT, neighbours)
    if not query or not out or len(query) != len(out):
        return None
    (heads, depth), taken = query[-2:], out[-3:-1]
    if taken in ((heads, depth), (heads, depth // 2)):  # half of the query may be a gate
        return None
    return (
        f"the query would have [heads, depth] = {list(query[-2:])}, and the attention output "
        f"{list(out[-3:-1])}"
    )


def first_kernel(layer: str, roles: Sequence[str], neighbours: Neighbours) -> Axes | None:
    """Return the shape of the first of these kernels that the layer has."""
    for role in roles:
        if shape := neighbours.kernel(f"{layer}{role}"):
            return shape
    return None


def layer_of(name: str) -> str:
    """Return the layer around a kernel's module: `attn/` for `attn/query/kernel`."""
    return re.sub(r"[^/]+(/Linear)?/[^/]+$", "", plain_name(name))


def _check_layers(view: MatrixView, name: str, neighbours: Neighbours) -> str | None:
    """Check that the siblings' first axes differ in length, unlike in a stack."""
    if view.batch or len(view.reduction + view.output) < 3 or looks_like_adapter(name):
        return None
    shapes = {}
    for other in neighbours.siblings(name):
        shape = neighbours.shapes[other]
        if shape is None or looks_like_adapter(other):
            continue
        if shape[:1] != view.shape[:1]:
            return None
        shapes[other] = shape
    for other, shape in shapes.items():
        stacked_gain = bool(_GAIN.search(other)) and len(_without_ones(shape)) == 2
        if stacked_gain or (len(shape) > 2 and _begin_with_different_axes(name, other)):
            return f"{other!r} begins with {shape[0]}, too, so both may be stacks of layers"
    return None


def _begin_with_different_axes(name: str, other: str) -> bool:
    """Whether the first axes of two attention kernels differ in meaning."""
    first, second = map(_role, (name, other))
    if first in _INPUTS:  # an input begins with the model's width, an output does not
        return second not in _INPUTS
    return first in _OUT


def _role(name: str) -> str:
    """Return the role in a path: `query` for `attn/query/kernel` and for `attn/query_w`."""
    *_, module, kernel = ["", *name.split("/")]
    return kernel.removesuffix("_w") if kernel.endswith("_w") else module


def _check_gate(view: MatrixView, name: str, neighbours: Neighbours) -> str | None:
    """Check that Gemma's gate has as many outputs as `linear` has inputs."""
    linear = neighbours.shapes.get(name.removesuffix(_GATE) + "linear")
    output = math.prod(view.shape[axis] for axis in view.output)
    if not linear or linear[-2] == output:
        return None
    return f"it would have {output} outputs, but 'linear' has {linear[-2]} inputs"


def _check_stack(view: MatrixView, name: str, neighbours: Neighbours) -> str | None:
    """Check that the first axis of all siblings of a stack is the number of layers, too."""
    if not view.batch:
        return None
    layers = view.shape[0]
    for other in neighbours.siblings(name):
        shape = neighbours.shapes[other]
        kernel = other.endswith("kernel") and not re.search(r"norm|(^|/)ln", other)
        plain_kernel = shape and len(shape) == 2 and kernel
        if shape and shape[0] != layers:
            return f"in a stack all shapes begin with {layers}, but {other!r} has shape {shape}"
        if plain_kernel:
            return f"{other!r}, {shape}, would then be {layers} kernels with one axis each"
    return None


def _check_experts(view: MatrixView, name: str, neighbours: Neighbours) -> str | None:
    """Check that the inputs and the outputs of experts have the model's width."""
    found = re.search(r"expert[^/]*/(.*/)?(gate|up|w1|w3|wi|(down|w2|wo))[^/]*$", name)
    if not found or not view.batch:
        return None
    _, fan_in, fan_out = view.sides[0]
    inner, outer = (fan_in, fan_out) if found[3] else (fan_out, fan_in)
    known = lambda length: neighbours.is_model_width(length, but=name)
    if not known(outer) and known(inner):
        side = "outputs" if found[3] else "inputs"
        return f"it would have {outer} {side}, but the model's width is {inner}"
    return None


def _check_second_axis(view: MatrixView, name: str, neighbours: Neighbours) -> str | None:
    """Check that the second axis of all siblings is the number of layers, too."""
    for other in neighbours.siblings(name):
        shape = neighbours.shapes[other]
        if shape and len(shape) > 1 and shape[1] != view.shape[1]:
            length = view.shape[1]
            return (
                f"all second axes would be {length} layers, but that of {other!r} is {shape[1]}"
            )
    return None


def _without_ones(shape: Axes) -> Axes:
    return tuple(length for length in shape if length != 1)
