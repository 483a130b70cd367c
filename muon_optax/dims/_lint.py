"""What looks wrong: a leaf that may be read the wrong way, a rule without a leaf."""

import math
import re
from collections.abc import Collection, Sequence

from muon_optax.dims._assignment import Assignment
from muon_optax.dims._rules import Rule
from muon_optax.dims._view import MatrixView
from muon_optax.dims.layouts import LAYOUTS, RANK_TWO

# The largest ratio of a matrix' sides that is not doubted, for a role without a telling name
# and for a guess. Low-rank adapters are exempt.
_MAX_RATIO, _MAX_RATIO_OF_GUESS = 20, 200
_UNSPECIFIC = ("matrix", "stack of matrices")


def lint_leaf(assignment: Assignment, paths: Collection[str] = ()) -> str | None:
    """Why a leaf may be no matrix, or not the one it is read as; None if nothing looks wrong.

    `paths` are those of all leaves. Only rules of `LAYOUTS` are doubted: a spec or a rule of
    the user's own is taken as it is.

    >>> import jax.numpy as jnp
    >>> from muon_optax import FLAX, dims
    >>> (assignment,) = dims.assign(FLAX, {"codes": {"kernel": jnp.ones((4096, 64))}})
    >>> lint_leaf(assignment)
    '4096 × 64: one side is over 20 times the other; an embedding, an output layer, a stack?'
    """
    path, view, rule, _ = assignment
    if view is None or rule is None or not _is_from_layout(rule):
        return None
    # In the order of what says most about the leaf.
    return (
        _check_name(path)
        or _check_fused(path, rule.role)
        or _check_order(path, rule, view, paths)
        or _check_channels(rule.role, view)
        or _check_sides(path, rule, view)
    )


def lint_rules(rules: Sequence[Rule], assignments: Sequence[Assignment]) -> list[str]:
    """A sentence for each rule of the user's own that no leaf uses: most likely a mistake.

    >>> import jax.numpy as jnp
    >>> from muon_optax import FLAX, dims
    >>> rules = (Rule("fused", "qvk/kernel$", "in out[q k v]"), *FLAX)
    >>> lint_rules(rules, dims.assign(rules, {"qkv": {"kernel": jnp.ones((4, 6))}}))
    ["unused: rule 1, 'fused': no path matches 'qvk/kernel$'"]
    """
    used = [assignment.rule for assignment in assignments]
    problems = []
    for number, rule in enumerate(rules, 1):
        if _is_from_layout(rule) or rule in used:
            continue
        paths = [a.path for a in assignments if re.search(rule.pattern, a.path, re.IGNORECASE)]
        if paths:
            why = f"{paths[0]!r} matches, but has another number of axes, or an earlier rule"
        else:
            why = f"no path matches {rule.pattern!r}"
        problems.append(f"unused: rule {number}, {rule.role!r}: {why}")
    return problems


def _is_from_layout(rule: Rule) -> bool:
    return any(rule in rules for rules in (*LAYOUTS.values(), RANK_TWO))


def _check_name(path: str) -> str | None:
    """A stack of biases or gains has as many axes as a matrix."""
    name = path.rpartition("/")[2]
    gain = r"(^|_)(bias|gain|norm|scale|shift|offset|gamma|beta|log)s?(_|$)"
    if re.search(gain, name, re.IGNORECASE):
        return f"{name!r} sounds like a bias or a gain; is it a stack of them?"
    return None


def _check_fused(path: str, role: str) -> str | None:
    """A fused kernel is several matrices."""
    fused = r"(^|[/_])(w?qkv|w?kv|c_attn|query_key_value|gate_up)(_proj)?/"
    if role in _UNSPECIFIC and re.search(fused, path, re.IGNORECASE):
        return "its name says that it is several matrices; use a rule such as 'in out[q k v]'"
    return None


def _check_order(path: str, rule: Rule, view: MatrixView, paths: Collection[str]) -> str | None:
    """Flax has kernels `[in, out]`; a `weight` of PyTorch and Equinox is `[out, in]`."""
    bias = re.sub("weight$", "bias", path)
    if bias != path and bias in paths:  # then the bias has confirmed the order
        return None
    _, fan_in, fan_out = view.sides[0]
    if rule.spec == "in out" and path.endswith("weight") and fan_in != fan_out:
        return f"read as [in, out] = {fan_in} × {fan_out}; is it [out, in], as in EQUINOX?"
    return None


def _check_channels(role: str, view: MatrixView) -> str | None:
    """A depthwise kernel, with one input channel, is not a matrix: its channels do not mix."""
    output_first = view.output[0] < view.reduction[0]
    channels = view.reduction[0 if output_first else -1]
    if role != "convolution" or view.shape[channels] > 1:
        return None
    return "a convolution with one input channel; is it depthwise, and so not a matrix?"


def _check_sides(path: str, rule: Rule, view: MatrixView) -> str | None:
    """A matrix with one very long side may be an embedding, or be read the wrong way."""
    if re.search(r"lora|adapter", path, re.IGNORECASE):
        return None
    if rule.role in _UNSPECIFIC:
        limit = _MAX_RATIO
    else:
        limit = _MAX_RATIO_OF_GUESS if rule.guess else math.inf
    for _, fan_in, fan_out in view.sides:
        if max(fan_in, fan_out) > limit * min(fan_in, fan_out):
            ratio = f"one side is over {limit} times the other"
            return f"{fan_in} × {fan_out}: {ratio}; an embedding, an output layer, a stack?"
    return None
