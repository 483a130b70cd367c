"""The role of a leaf, judged from the other leaves if its name does not tell.

>>> import jax.numpy as jnp
>>> from muon_optax import FLAX, dims
>>> params = {f"Dense_{i}": {"kernel": jnp.ones((8, 8 - 5 * (i == 2)))} for i in range(3)}
>>> [found.evidence for found in dims.assign(FLAX, params)]
[None, None, 'no other layer takes its 3 outputs']
"""

import re

from muon_optax.dims._assignment import Assignment
from muon_optax.dims._consistency import QUERY, first_kernel, layer_of
from muon_optax.dims._names import (
    is_in_head,
    is_named_first,
    is_named_like_last,
    is_named_output,
    is_of_attention,
)
from muon_optax.dims._rules import Rule
from muon_optax.dims._tree import Tree
from muon_optax.dims._view import MatrixView
from muon_optax.dims._widths import channels, ends
from muon_optax.dims.layouts import is_from_layout

_PLAIN = ("matrix", "stack of matrices", "convolution")
_FEW = 16  # a convolution with 16 times fewer channels out than in returns an image
Result = tuple[str, str] | None  # a role, and the evidence


def judge(found: Assignment, tree: Tree) -> Assignment:
    """Return the assignment, corrected if other leaves show that the leaf is not a matrix."""
    view, rule = found.view, found.rule
    if view is None or rule is None or rule.role not in _PLAIN:
        return found
    if found.evidence is None and not is_from_layout(rule):
        return found
    for look in (_as_router, _as_depthwise, _as_output):
        if result := look(found.path, rule, view, tree):
            role, evidence = result
            return found._replace(view=None, rule=Rule(role, "", None), evidence=evidence)
    return found


def _as_router(path: str, rule: Rule, view: MatrixView, tree: Tree) -> Result:
    match = re.match(r"(.*?)/?(gate|wg|gating)/\w+$", path)
    if match and any(
        re.match(rf"{re.escape(match[1])}/?\w*experts?(/|_|$)", p) for p in tree.shapes
    ):
        return "router", "a gate next to experts"
    return None


def _as_depthwise(path: str, rule: Rule, view: MatrixView, tree: Tree) -> Result:
    if path not in tree.one_channel or is_first_layer(path, view, tree):
        return None
    for other, its in tree.one_channel.items():
        if other != path and sorted(its.shape)[:-1] == sorted(view.shape)[:-1]:
            return "depthwise convolution", "one input channel, like other convolutions"
    return None


def is_first_layer(path: str, view: MatrixView, tree: Tree) -> bool:
    """Whether a convolution with one input channel is a first layer.

    First layers read grayscale images or audio. The convolution is one in three cases: no other
    layer gives its number of outputs; it is the first of equal layers, and the others have more
    input channels; or no other convolution has one input channel, and its name says "first".
    """
    if not tree.widths.is_given(ends(view)[1], path):
        return True
    equal = tree.equal_layers(path)
    others = (tree.assignments.get(other) for other in equal if other != path)
    if len(equal) > 1 and all(o and o.view and channels(o.view) > 1 for o in others):
        return equal[0] == path
    return len(tree.one_channel) == 1 and is_named_first(path)


def _as_output(path: str, rule: Rule, view: MatrixView, tree: Tree) -> Result:
    fan_in, fan_out = ends(view)
    in_attention = first_kernel(layer_of(path), QUERY, tree.neighbours)
    if len(view.sides) > 1 or in_attention or is_of_attention(path):
        return None
    encoder = re.search(r"(^|[/_])enc(oder)?(_?\d+)?/", path, re.IGNORECASE)
    image = "conv" in rule.role and _FEW * fan_out <= fan_in and not encoder
    last_colours = fan_out <= 4 and tree.is_last_number(path)
    if image and (is_named_output(path) or last_colours):
        return "output layer", f"an output of {fan_out} channels"
    if tree.is_repeated(path, view) and fan_out > 1 and not is_in_head(path):
        return None
    given = tree.widths.is_given(fan_in, path)
    if fan_out == 1 and given:
        return "output layer", "one output"
    named = is_in_head(path) or (is_named_output(path) and not encoder)
    if named and tree.widths.is_the_models_input(fan_out, fan_in, path):
        return "output layer", f"only the model's inputs have width {fan_out}, too"
    joined = tree.widths.is_joined(fan_out, path)
    if tree.widths.is_taken(fan_out, path) or (joined and "conv" in rule.role):
        return None
    evidence = f"no other layer takes its {fan_out} outputs"
    if is_in_head(path):
        return "output layer", evidence
    if not given:
        return None
    if table := tree.widths.tables.get(fan_out):
        return "output layer", f"as many outputs as {table!r} has rows"
    if is_named_output(path):
        return "output layer", evidence
    hidden = joined or tree.widths.may_be_an_image(fan_out)
    if is_named_like_last(path) and not hidden:
        return "output layer", evidence
    return None
