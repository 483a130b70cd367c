"""Knows the roles of parameters: which path and rank make a matrix, along which axes."""

import math
import re
from collections.abc import Sequence
from typing import Any, NamedTuple

from optax.contrib import MuonDimensionNumbers

from muon_optax.checks import LeafError
from muon_optax.dims.view import Spec, view_of


class Rule(NamedTuple):
    """A role, and how its leaves are recognised and seen as matrices.

    Attributes:
      role: What such a leaf is, in words.
      pattern: A regular expression searched in the leaf's path, `"blocks/0/mlp/kernel"`,
        whatever the case.
      spec: Axes counted from the end, so that leading batch axes may come before; None for
        a leaf that is no matrix.
      min_ndim: The rule holds for leaves of at least so many axes,
      max_ndim: and at most so many.

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


_IN_OUT = MuonDimensionNumbers(-2, -1)
_WEIGHT = r"(^|/)(kernel|weights?|w\d*)$"

# Linen and nnx by role. Leading axes of a matrix (scanned layers, experts) are batch axes;
# all heads of an attention kernel form one matrix. What no rule fits is an error, no guess.
FLAX: tuple[Rule, ...] = (
    Rule("bias or gain", r"(^|/)(bias|scale)$", None),
    Rule("embedding", r"(^|/)[^/]*emb[^/]*$|(^|/)(wte|wpe|cls)$|_token$", None),
    Rule("output head", r"(head|logits|classifier)[^/]*/(kernel|weight|w)$", None),
    Rule("router", r"router[^/]*/(kernel|weight|w)$", None),
    Rule("depthwise convolution", r"(depthwise|dwconv)[^/]*/kernel$", None),
    Rule("unshared convolution", r"ConvLocal[^/]*/kernel$", _IN_OUT, 3),
    *(
        Rule(
            "convolution",
            r"(conv|stem|patch|embedding)[^/]*/kernel$",
            MuonDimensionNumbers(tuple(range(-ndim, -1)), -1),
            ndim,
            ndim,
        )
        for ndim in (3, 4, 5)
    ),
    Rule("experts", r"(expert|moe)", _IN_OUT, 3),
    Rule(
        "attention query, key or value",
        r"(^|/)(query|key|value|[qkv](_proj)?)/kernel$",
        MuonDimensionNumbers(-3, (-2, -1)),
        3,
    ),
    Rule(
        "attention output",
        r"(^|/)(out|o|out_proj|o_proj)/kernel$",
        MuonDimensionNumbers((-3, -2), -1),
        3,
    ),
    Rule("matrix", r"^$|" + _WEIGHT, _IN_OUT, 2, 2),
    # Not the layers whose kernel has several input or output axes in an unknown order.
    Rule(
        "stack of matrices",
        r"^(?!.*(general|einsum|qkv)[^/]*/kernel$).*" + _WEIGHT,
        _IN_OUT,
        3,
        3,
    ),
    Rule("vector or scalar", r"", None, 0, 1),
)


def find_spec(rules: Sequence[Rule], name: str, leaves: dict[str, Any]) -> Spec:
    """The spec of the first rule that matches the leaf of that name."""
    leaf = leaves[name]
    for rule in rules:
        fits = rule.min_ndim <= len(leaf.shape) <= rule.max_ndim
        if fits and re.search(rule.pattern, name, re.IGNORECASE):
            _check_bias(rule, name, leaves)
            return rule.spec
    raise LeafError(
        name,
        leaf,
        "no rule knows its role; put one in front, dims=(Rule('mine', "
        f"r'{re.escape(name)}$', MuonDimensionNumbers(in_axes, out_axes)), *FLAX), or "
        "None in place of the axes to give it to the fallback",
    )


def _check_bias(rule: Rule, name: str, leaves: dict[str, Any]) -> None:
    """A layer's bias has the kernel's batch and output axes: it betrays a wrong guess."""
    leaf = leaves[name]
    bias = leaves.get(re.sub(r"kernel$", "bias", name), leaf)
    view = view_of(rule.spec, name, leaf)
    if view is None or bias is leaf:
        return
    expected = tuple(leaf.shape[axis] for axis in view.batch + view.output)
    if bias.shape != expected:
        raise LeafError(
            name,
            leaf,
            f"rule {rule.role!r} takes axes {view.output} for its output, but then its bias "
            f"would have shape {expected}, not {bias.shape}; put a Rule with the right axes "
            "in front, dims=(Rule(...), *FLAX)",
        )
