"""Knows the roles of parameters: which path and rank make a matrix, along which axes."""

import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from optax.contrib import MuonDimensionNumbers

from muon_optax.checks import LeafError
from muon_optax.dims.neighbours import contradiction
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
      guess: Whether the leaf's neighbours may contradict the rule: a kernel's bias, the
        other half of an attention layer, the other leaves of a stack.

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
# all heads of an attention kernel form one matrix. What no rule fits is an error, and so is
# a guess that its neighbours contradict.
FLAX: tuple[Rule, ...] = (
    Rule("norm", r"(norm|(^|/)ln)[^/]*/(weight|w)$", None),
    Rule("bias or gain", r"(^|[/_])(bias|scale|gamma|beta)$", None),
    Rule("embedding", r"(^|_|/)(pos)?emb(ed(ding)?s?)?(_table)?$", None),
    Rule("token or position table", r"(^|/)(wte|wpe|cls)$|_token$", None),
    Rule("output head", r"(^|/)(?!multi_)(\w+_)?(head|classifier)(_\d+)?/" + _WEIGHT, None),
    Rule("output head", r"(?<!pre_)logits[^/]*/" + _WEIGHT, None),
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
        r"(^|/)(query|key|value)/kernel$",
        MuonDimensionNumbers(-3, (-2, -1)),
        min_ndim=3,
        guess=True,
    ),
    Rule(
        "attention output",
        r"(^|/)out/kernel$",
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


def find_spec(
    rules: Sequence[Rule], name: str, leaf: Any, neighbours: Mapping[str, Any]
) -> Spec:
    """The spec of the first rule that matches a leaf.

    Args:
      rules: In order of precedence.
      name: The leaf's path.
      leaf: The leaf.
      neighbours: All leaves by path, to check a guess against; none for no check.

    Returns:
      The rule's spec.

    Raises:
      LeafError: If no rule matches, or the neighbours contradict the one that does.
    """
    for rule in rules:
        fits = rule.min_ndim <= len(leaf.shape) <= rule.max_ndim
        if fits and re.search(rule.pattern, name, re.IGNORECASE):
            break
    else:
        raise LeafError(
            name,
            leaf,
            "no rule knows its role; put one in front, dims=(Rule('mine', "
            f"r'(^|/){re.escape(name)}$', MuonDimensionNumbers(in_axes, out_axes)), *FLAX), "
            "or None in place of the axes to give it to the fallback",
        )
    view = view_of(rule.spec, name, leaf)
    doubt = contradiction(view, name, neighbours) if rule.guess and view else None
    if doubt:
        raise LeafError(
            name,
            leaf,
            f"it looks like {rule.role!r}, but {doubt}; put a rule with its true axes in "
            "front, dims=(Rule(...), *FLAX)",
        )
    return rule.spec
