"""Knows the roles of parameters: which path and rank make a matrix, along which axes."""

import math
import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from optax.contrib import MuonDimensionNumbers

from muon_optax.checks import LeafError
from muon_optax.dims.neighbours import Shapes, contradiction
from muon_optax.dims.view import Spec, view_of


@dataclass(frozen=True)
class Rule:
    """A role, and how its leaves are recognised and seen as matrices.

    Attributes:
      role: What such a leaf is, in words.
      pattern: A regular expression searched in the leaf's path, `"blocks/0/mlp/kernel"`,
        whatever the case.
      spec: Axes counted from the end, so that leading batch axes may come before; None for
        a leaf that is no matrix.
      min_ndim: The rule holds for leaves of at least so many axes,
      max_ndim: and at most so many.
      guess: Whether the leaf's neighbours may contradict the rule, which passes the leaf on
        to the next: a kernel's bias, the rest of an attention layer, of a stack.

    Example:
      >>> import jax.numpy as jnp
      >>> from muon_optax import FLAX, dims
      >>> rules = (Rule("codebook", r"codes$", None), *FLAX)
      >>> dims.resolve(rules, {"codes": jnp.ones((8, 4)), "kernel": jnp.ones((4, 8))})
      [None, MatrixView(batch=(), reduction=(0,), output=(1,))]
    """

    role: str
    pattern: str
    spec: Spec
    min_ndim: int = 0
    max_ndim: float = math.inf
    guess: bool = False


_IN_OUT = MuonDimensionNumbers(-2, -1)
_WEIGHT = r"(kernel|weights?|w\d*)$"

# Linen and nnx by role. Leading axes of a matrix (scanned layers, experts) are batch axes;
# all heads of an attention kernel form one matrix. A guess that its neighbours contradict
# passes the leaf on to the next rule; what no rule fits is an error.
FLAX: tuple[Rule, ...] = (
    Rule("norm", r"(norm|(^|/)ln)[^/]*/(weight|w)$", None),
    Rule("bias or gain", r"(^|[/_])(bias|scale|gamma|beta)$", None),
    Rule("embedding", r"(^|_|/)(pos)?emb(ed(ding)?s?)?(_table)?$", None),
    Rule("token or position table", r"(^|/)(wte|wpe|cls)$|_token$", None),
    Rule("position table", r"(^|[/_])pos(ition)?s?(_?enc(oding)?)?$", None),
    Rule(
        "output head", r"(^|/)(?!multi_)(\w+_)?(head|classifier)(_\d+)?/(.*/)?" + _WEIGHT, None
    ),
    Rule("output head", r"(?<!pre_)logits[^/]*/" + _WEIGHT, None),
    Rule("output head", r"(^|/)(unembed\w*|readout|output_layer|vocab_proj)/" + _WEIGHT, None),
    Rule("router", r"router|gate_logits|(moe|expert)[^/]*/gate/" + _WEIGHT, None),
    Rule("depthwise convolution", r"(depthwise|dw_?conv|conv_dw).*/kernel$", None),
    Rule("unshared convolution", r"ConvLocal[^/]*/kernel$", _IN_OUT, 3),
    *(
        Rule(
            "convolution",
            r"(conv|(^|[/_])(stem|patch|embedding))[^/]*/kernel$",
            MuonDimensionNumbers(tuple(range(-ndim, -1)), -1),
            min_ndim=ndim,
            max_ndim=ndim,
            guess=True,
        )
        for ndim in (3, 4, 5)
    ),
    Rule(
        "attention query, key or value",
        r"(^|/)(query|key|value|[qkv])(_proj)?/kernel$",
        MuonDimensionNumbers(-3, (-2, -1)),
        min_ndim=3,
        guess=True,
    ),
    Rule(
        "attention output",
        r"(^|/)(out|o)(_proj)?/kernel$",
        MuonDimensionNumbers((-3, -2), -1),
        min_ndim=3,
        guess=True,
    ),
    Rule("experts", r"expert|moe", _IN_OUT, min_ndim=3),
    Rule("matrix", r"^$|(^|/)" + _WEIGHT, _IN_OUT, min_ndim=2, max_ndim=2),
    # Not the layers whose kernel has several input or output axes in an unknown order.
    Rule(
        "stack of matrices",
        r"^(?!.*(general|einsum|qkv)[^/]*/\w+$)(.*/)?" + _WEIGHT,
        _IN_OUT,
        min_ndim=3,
        max_ndim=3,
        guess=True,
    ),
    Rule("vector or scalar", r"", None, max_ndim=1),
)


def find_spec(rules: Sequence[Rule], name: str, leaf: Any, shapes: Shapes) -> Spec:
    """The spec of the first rule that matches a leaf and that no neighbour contradicts.

    Args:
      rules: In order of precedence.
      name: The leaf's path.
      leaf: The leaf.
      shapes: The shapes of all leaves, against which a guess is checked.

    Returns:
      The rule's spec.

    Raises:
      LeafError: If there is none.
    """
    problem = "no rule knows its role"
    for rule in rules:
        fits = rule.min_ndim <= len(leaf.shape) <= rule.max_ndim
        if not fits or not re.search(rule.pattern, name, re.IGNORECASE):
            continue
        view = view_of(rule.spec, name, leaf)
        doubt = contradiction(view, name, shapes) if rule.guess and view else None
        if not doubt:
            return rule.spec
        problem = f"it looks like {rule.role!r}, but {doubt}"
    raise LeafError(
        name,
        leaf,
        f"{problem}; put a rule in front, dims=(Rule('mine', r'(^|/){re.escape(name)}$', "
        "MuonDimensionNumbers(in_axes, out_axes)), *FLAX), or None in place of the axes to "
        "give it to the fallback",
    )
