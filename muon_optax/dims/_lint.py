"""Doubts about leaves whose role or axes may be wrong, and about rules that no leaf uses."""

import re
from collections.abc import Sequence

from muon_optax._ranges import without_numbers
from muon_optax.dims._assignment import Assignment
from muon_optax.dims._evidence import is_first_layer
from muon_optax.dims._guess import guess_spec
from muon_optax.dims._names import (
    UNKNOWN,
    is_named_like_last,
    is_named_output,
    looks_like_adapter,
    parts_of,
    sounds_like_gain,
)
from muon_optax.dims._rules import Rule
from muon_optax.dims._tree import Tree
from muon_optax.dims._view import MatrixView, Spec
from muon_optax.dims._widths import MAX_RATIO, SHORTEST_PART, ends, head_ends
from muon_optax.dims.layouts import is_from_layout

# The names of a recurrent cell's kernels, one for its inputs and one for its state.
_RECURRENT = (
    ("_ih", "_hh"),
    ("w_i$", "w_h"),
    ("dense_i/", "dense_h/"),
    ("(?<!recurrent_)kernel$", "recurrent_kernel"),
)
# The gates of a recurrent cell, by their number.
_GATES = {3: ("r", "z", "n"), 4: ("i", "f", "g", "o")}
_HEAD_OF_A_PART = r"[^/]/(?!lm_)(\w+_)?head(_?\d+)?/(kernel|weight|w)$"  # not of the model
_MANY = 4  # so many layers that take a head's outputs are not all first layers
# A layer and the layer that takes its outputs.
_PAIRS = (
    *(("query", "out"), ("q_proj", "o_proj"), ("in_proj", "out_proj"), ("wi", "wo")),
    *(("fc1", "fc2"), ("up_proj", "down_proj"), ("up", "down"), ("w1", "w2")),
    *(("linear1", "linear2"), ("c_fc", "c_proj"), ("linear_start", "linear_end")),
)
Doubt = tuple[str, Spec] | None  # the reason, and the spec that would be right

# A matrix is doubtful if its aspect ratio exceeds a limit and no other layer has its longer
# dimension. The first limit is for leaves without a specific role, the second for guessed axes.
_MAX_RATIO_OF_GUESS = 200
_UNSPECIFIC = ("matrix", "stack of matrices", "convolution", "stack of convolutions")


def lint_leaf(found: Assignment, tree: Tree) -> Assignment:
    """Return the assignment, with the reason to doubt it, if there is one.

    >>> import jax.numpy as jnp
    >>> from muon_optax import FLAX, dims
    >>> (found,) = dims.assign(FLAX, {"codes": {"kernel": jnp.ones((4096, 64))}})
    >>> found.doubt
    'read as 4096 × 64, and no other layer has 4096 inputs or outputs; is it a table?'
    """
    if found.rule is None or (found.evidence is None and not is_from_layout(found.rule)):
        return found
    if found.view is None:
        return found._replace(doubt=_doubt_of_fallback(found, found.rule, tree))
    if found.view.shape[0] * found.view.shape[-1] == 0:
        return found
    for check in _CHECKS:  # the most specific first
        if doubt := check(found.path, found.rule, found.view, tree):
            return found._replace(doubt=doubt[0], proposal=doubt[1])
    return found


def _doubt_of_fallback(found: Assignment, rule: Rule, tree: Tree) -> str | None:
    """Return the reason why a leaf of the fallback may be a matrix; None if it is not."""
    shape = tree.shapes[found.path]
    if rule.role == UNKNOWN:
        return found.evidence
    if shape and len(shape) > 1 and re.search(_HEAD_OF_A_PART, found.path, re.IGNORECASE):
        given = head_ends(found.path, shape)[1]
        if tree.widths.num_takers(given, found.path) >= _MANY:
            return f"other layers take its {given} outputs; is it a matrix?"
    return None


def lint_rules(rules: Sequence[Rule], assignments: Sequence[Assignment]) -> list[str]:
    """Return a sentence for each of the user's rules that no leaf uses: likely a mistake.

    >>> import jax.numpy as jnp
    >>> from muon_optax import FLAX, dims
    >>> rules = (Rule("fused", "qvk/kernel$", "in out[q k v]"), *FLAX)
    >>> lint_rules(rules, dims.assign(rules, {"qkv": {"kernel": jnp.ones((4, 6))}}))
    ["unused: rule 1, 'fused': no path matches 'qvk/kernel$'"]
    """
    used = [assignment.rule for assignment in assignments]
    problems = []
    for number, rule in enumerate(rules, 1):
        if is_from_layout(rule) or rule in used:
            continue
        paths = [a.path for a in assignments if rule.finds(a.path)]
        if paths:
            why = f"{paths[0]!r} matches, but has a different number of axes or an earlier rule"
        else:
            why = f"no path matches {rule.pattern!r}"
        problems.append(f"unused: rule {number}, {rule.role!r}: {why}")
    return problems


def _check_name(path: str, rule: Rule, view: MatrixView, tree: Tree) -> Doubt:
    """Doubt a leaf named like a bias or gain: a stack of biases has the axes of a matrix."""
    name = path.rpartition("/")[2]
    if sounds_like_gain(name):
        return f"{name!r} sounds like a bias or a gain; is it a stack of them?", None
    return None


def _check_fused(path: str, rule: Rule, view: MatrixView, tree: Tree) -> Doubt:
    """Doubt a kernel whose name says that it consists of several matrices."""
    plain = rule.role in (*_UNSPECIFIC, "experts")
    if not plain or (parts := parts_of(path)) is None:
        return None
    reason = "its name says that it consists of several matrices"
    return reason, _divide(rule, view, parts)


def _divide(rule: Rule, view: MatrixView, parts: Sequence[str]) -> Spec:
    """Return the spec with the outputs divided into these parts, if they can be equal."""
    if not isinstance(rule.spec, str):
        return rule.spec
    words = rule.spec.split()
    last = len(words) - 1 - words[::-1].index("out")
    if not parts or view.shape[last - len(words)] % len(parts):
        return rule.spec
    words[last] = f"out[{' '.join(parts)}]"
    return " ".join(words)


def _check_pair(path: str, rule: Rule, view: MatrixView, tree: Tree) -> Doubt:
    """Doubt a layer with twice as many outputs as the next takes, such as a fused gate."""
    if looks_like_adapter(path) or len(view.sides) != 1:
        return None
    _, _, outputs = view.sides[0]
    for first, second in _PAIRS:
        name, count = re.subn(rf"(^|/){first}((/[^/]+)?)$", rf"\1{second}\2", path)
        other = tree.assignments.get(name) if count else None
        if other and other.view:
            _, taken, _ = other.view.sides[0]
            if outputs == 2 * taken or (outputs > 2 * taken and first == "in_proj"):
                return f"{second!r} takes only {taken} of its {outputs} outputs", rule.spec
    return None


def _check_halves(path: str, rule: Rule, view: MatrixView, tree: Tree) -> Doubt:
    """Doubt a layer if the only other layer of its module takes half of its outputs."""
    if rule.role != "matrix" or len(view.sides) != 1 or looks_like_adapter(path):
        return None
    _, _, outputs = view.sides[0]
    module = path.rpartition("/")[0].rpartition("/")[0]
    while module and not (around := _matrices_in(module, path, tree)):
        module = module.rpartition("/")[0]
    if not module or len(around) != 1:
        return None
    _, taken, _ = around[0].sides[0]
    if outputs == 2 * taken:
        reason = f"the other layer of its module takes {taken} of its {outputs} outputs"
        return reason, rule.spec
    return None


def _matrices_in(module: str, path: str, tree: Tree) -> list[MatrixView]:
    """Return the views of the other leaves of a module, if they are a single stack each."""
    found = (tree.assignments.get(name) for name in tree.neighbours.leaves_in(module))
    views = [leaf.view for leaf in found if leaf and leaf.view and leaf.path != path]
    return [view for view in views if len(view.sides) == 1]


def _check_gates(path: str, rule: Rule, view: MatrixView, tree: Tree) -> Doubt:
    """Doubt the kernel of a recurrent cell, which contains several gates."""
    for inputs, state in _RECURRENT:
        name = re.sub(inputs, state, path) if re.search(f"({inputs}|{state})", path) else ""
        other = tree.assignments.get(name)
        if other and other.view:
            _, width, outputs = other.view.sides[0]
            parts = _GATES.get(outputs // width if outputs % width == 0 else 0)
            if parts:
                reason = "a recurrent cell with all gates in one kernel"
                return reason, _divide(rule, view, parts)
    return None


def _check_order(path: str, rule: Rule, view: MatrixView, tree: Tree) -> Doubt:
    """Doubt a `weight` read as `[in, out]`: in PyTorch and Equinox it is `[out, in]`."""
    bias = re.sub("weight$", "bias", path)
    if bias != path and bias in tree.shapes:  # then the bias has confirmed the order
        return None
    _, fan_in, fan_out = view.sides[0]
    if rule.spec == "in out" and path.endswith("weight") and fan_in != fan_out:
        reason = f"read as [in, out] = {fan_in} × {fan_out}; is it [out, in], as in EQUINOX?"
        return reason, "out in"
    return None


def _check_channels(path: str, rule: Rule, view: MatrixView, tree: Tree) -> Doubt:
    """Doubt a convolution with one input channel: if it is depthwise, it is not a matrix."""
    if path not in tree.one_channel or is_first_layer(path, view, tree):
        return None
    return "a convolution with one input channel; is it depthwise, so not a matrix?", None


def _check_stack(path: str, rule: Rule, view: MatrixView, tree: Tree) -> Doubt:
    """Doubt a stack of matrices unless a sibling has the same first axis."""
    if rule.role != "stack of matrices":
        return None
    for other in tree.neighbours.siblings(path):
        shape = tree.shapes[other]
        equal_layer = without_numbers(other) == without_numbers(path)
        if shape and shape[0] == view.shape[0] and not equal_layer:
            return None
    guess = guess_spec(path, tree.neighbours) or rule.spec
    return f"is it a stack of {view.shape[0]} matrices, or one kernel of several axes?", guess


def _check_table(path: str, rule: Rule, view: MatrixView, tree: Tree) -> Doubt:
    """Doubt a matrix with a table's shape, unless another layer gives its inputs."""
    fan_in, fan_out = ends(view)
    table = tree.widths.tables_by_shape.get((fan_in, fan_out))
    if not table or rule.role not in _UNSPECIFIC or tree.widths.is_given(fan_in, path):
        return None
    return f"it has the shape of {table!r}; is it a table, or an output layer transposed?", None


def _check_sides(path: str, rule: Rule, view: MatrixView, tree: Tree) -> Doubt:
    """Doubt a matrix if no other layer has its much longer dimension: it may be a table."""
    plain = rule.role in _UNSPECIFIC
    if looks_like_adapter(path) or not (plain or rule.guess):
        return None
    limit = MAX_RATIO if plain else _MAX_RATIO_OF_GUESS
    for _, fan_in, fan_out in view.sides:
        length = max(fan_in, fan_out)
        shared = tree.widths.is_given if fan_in > fan_out else tree.widths.is_used
        if length > limit * min(fan_in, fan_out) and not shared(length, path):
            reason = f"no other layer has {length} inputs or outputs; is it a table?"
            return f"read as {fan_in} × {fan_out}, and {reason}", None
    return None


def _check_taken(path: str, rule: Rule, view: MatrixView, tree: Tree) -> Doubt:
    """Doubt a leaf whose outputs no other layer takes: it may be an output of the model."""
    if rule.role not in _UNSPECIFIC or len(view.sides) > 1:
        return None
    fan_in, fan_out = ends(view)
    if tree.is_repeated(path, view) or not tree.widths.is_given(fan_in, path):
        return None
    joined = tree.widths.is_joined(fan_out, path)
    convolution, short = "convolution" in rule.role, fan_out < SHORTEST_PART
    if joined and convolution and not short:  # its outputs are flattened
        return None
    equal = tree.equal_layers(path)
    alone = is_named_like_last(path) and len(equal) == 1
    last = alone or tree.is_last_number(path)
    within = tree.shapes if alone else equal  # a gate's two kernels do not take the inputs
    if last and tree.widths.is_the_models_input(fan_out, fan_in, path, within):
        reason = f"only the model's inputs have width {fan_out}, too; is it an output layer?"
        return reason, None
    if tree.widths.is_taken(fan_out, path):
        table = tree.widths.tables.get(fan_out)
        same_shape = (fan_out, fan_in) in tree.widths.tables_by_shape
        end = last or (same_shape and is_named_output(path))
        if table and end and fan_out not in tree.widths.heads:
            return f"as many outputs as {table!r} has rows; is it an output layer?", None
        if tree.widths.num_takers(fan_out, path) or tree.widths.is_added(fan_out, path):
            return None
        reason = f"no other layer takes exactly its {fan_out} outputs"
        proposal = None if last and not tree.widths.heads else rule.spec
        return f"{reason}; is it an output layer, or several in one?", proposal
    if joined and (convolution or not (short or last)):
        return None
    return f"no other layer takes its {fan_out} outputs; is it an output layer?", None


_CHECKS = (
    _check_name,
    _check_fused,
    _check_pair,
    _check_halves,
    _check_gates,
    _check_order,
    _check_channels,
    _check_stack,
    _check_table,
    _check_sides,
    _check_taken,
)
