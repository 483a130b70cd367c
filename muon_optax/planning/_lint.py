"""Knows what is suspicious about the treatment of a leaf."""

import math
import re
from collections.abc import Collection, Sequence

from muon_optax.dims import LAYOUTS, RANK_TWO, Assignment, MatrixView, Rule

_LOPSIDED, _ABSURD = 20, 200
_UNSPECIFIC = ("matrix", "stack of matrices")


def find_doubt(assignment: Assignment, paths: Collection[str] = ()) -> str | None:
    """What speaks against giving a leaf to Muon, in words.

    What a user has said, by a spec or a rule of their own, is not doubted.

    Args:
      assignment: What `dims` says of the leaf.
      paths: Of all leaves.

    Returns:
      None where nothing does.

    Example:
      >>> import jax.numpy as jnp
      >>> from muon_optax import FLAX, dims
      >>> (assignment,) = dims.assign(FLAX, {"codes": {"kernel": jnp.ones((4096, 64))}})
      >>> find_doubt(assignment)
      '4096 × 64: one side is over 20 times the other; an embedding, an output layer, a stack?'
    """
    path, view, rule = assignment
    if view is None or rule is None or not _is_ours(rule):
        return None
    doubts = (
        _of_name(path),
        _of_parts(path, rule.role),
        _of_order(path, rule, view, paths),
        _of_channels(rule.role, view),
        _of_sides(path, rule, view),
    )
    return next(filter(None, doubts), None)


def unused_rules(rules: Sequence[Rule], assignments: Sequence[Assignment]) -> list[str]:
    """What is to be said of a user's own rules that decide no leaf: a slip, most likely.

    Args:
      rules: In order of precedence.
      assignments: Of all leaves.

    Returns:
      A sentence for each.

    Example:
      >>> import jax.numpy as jnp
      >>> from muon_optax import FLAX, dims
      >>> rules = (Rule("fused", "qvk/kernel$", "in out[q k v]"), *FLAX)
      >>> unused_rules(rules, dims.assign(rules, {"qkv": {"kernel": jnp.ones((4, 6))}}))
      ["unused: rule 1, 'fused': no path matches 'qvk/kernel$'"]
    """
    used = [assignment.rule for assignment in assignments]
    said = []
    for number, rule in enumerate(rules, 1):
        if _is_ours(rule) or rule in used:
            continue
        paths = [a.path for a in assignments if re.search(rule.pattern, a.path, re.I)]
        why = f"no path matches {rule.pattern!r}"
        if paths:
            why = f"{paths[0]!r} matches, but has another number of axes, or an earlier rule"
        said.append(f"unused: rule {number}, {rule.role!r}: {why}")
    return said


def _is_ours(rule: Rule) -> bool:
    return any(rule in rules for rules in (*LAYOUTS.values(), RANK_TWO))


def _of_name(path: str) -> str | None:
    """A stack of biases or gains has the rank of a matrix."""
    name = path.rpartition("/")[2]
    if re.search(r"(^|_)(bias|gain|norm|scale|shift|offset|gamma|beta|log)s?(_|$)", name, re.I):
        return f"{name!r} sounds like a bias or a gain, of which there may be a stack"
    return None


def _of_parts(path: str, role: str) -> str | None:
    """A kernel that holds several projections is several matrices."""
    several = r"(^|[/_])(w?qkv|w?kv|c_attn|query_key_value|gate_up)(_proj)?/"
    if role in _UNSPECIFIC and re.search(several, path, re.I):
        return "the name says that it is several in one; a rule may say 'in out[q k v]'"
    return None


def _of_order(path: str, rule: Rule, view: MatrixView, paths: Collection[str]) -> str | None:
    """Flax says kernel; what says weight has `[out, in]` in PyTorch and Equinox."""
    bias = re.sub("weight$", "bias", path)
    if bias != path and bias in paths:  # and fits, or there were no rule
        return None
    _, fan_in, fan_out = view.sides[0]
    if rule.spec == "in out" and path.endswith("weight") and fan_in != fan_out:
        return f"read as [in, out] = {fan_in} × {fan_out}; is it [out, in], as EQUINOX has it?"
    return None


def _of_channels(role: str, view: MatrixView) -> str | None:
    """A depthwise kernel has one input channel and is no matrix: its channels do not mix."""
    output_first = view.output[0] < view.reduction[0]
    channels = view.reduction[0 if output_first else -1]
    if role != "convolution" or view.shape[channels] > 1:
        return None
    return "a convolution of one input channel; or is it depthwise, and no matrix?"


def _of_sides(path: str, rule: Rule, view: MatrixView) -> str | None:
    """Where the name says no more than that it is a weight, or the axes were guessed."""
    most = _LOPSIDED if rule.role in _UNSPECIFIC else _ABSURD if rule.guess else math.inf
    if re.search(r"lora|adapter", path, re.I):
        return None
    for _, fan_in, fan_out in view.sides:
        if max(fan_in, fan_out) > most * min(fan_in, fan_out):
            what = f"one side is over {most} times the other"
            return f"{fan_in} × {fan_out}: {what}; an embedding, an output layer, a stack?"
    return None
