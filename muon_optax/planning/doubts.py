"""Knows what is suspicious about the treatment of a leaf."""

import re

from muon_optax.dims import LAYOUTS, Assignment, MatrixView

_LOPSIDED = 20
_UNSPECIFIC = ("matrix", "stack of matrices")


def find_doubt(assignment: Assignment) -> str | None:
    """What speaks against giving a leaf to Muon, in words.

    What a user has said, by a spec or a rule of their own, is not doubted.

    Args:
      assignment: What `dims` says of the leaf.

    Returns:
      None where nothing does.

    Example:
      >>> import jax.numpy as jnp
      >>> from muon_optax import FLAX, dims
      >>> (assignment,) = dims.assign(FLAX, {"codes": {"kernel": jnp.ones((4096, 64))}})
      >>> find_doubt(assignment)
      '4096 × 64: one side is over 20 times the other, as of an embedding or an output layer'
    """
    path, view, rule = assignment
    if view is None or rule is None or not any(rule in rules for rules in LAYOUTS.values()):
        return None
    doubts = (_of_name(path), _of_channels(rule.role, view), _of_sides(path, rule.role, view))
    return next(filter(None, doubts), None)


def _of_name(path: str) -> str | None:
    """A stack of biases or gains has the rank of a matrix."""
    name = path.rpartition("/")[2]
    if re.search(r"(^|_)(bias|gain|norm|scale|shift|offset|gamma|beta|log)s?(_|$)", name, re.I):
        return f"{name!r} sounds like a bias or a gain, of which there may be a stack"
    return None


def _of_channels(role: str, view: MatrixView) -> str | None:
    """A depthwise kernel has one input channel and is no matrix: its channels do not mix."""
    output_first = view.output[0] < view.reduction[0]
    channels = view.reduction[0 if output_first else -1]
    if role != "convolution" or view.shape[channels] > 1:
        return None
    return "a convolution of one input channel; or is it depthwise, and no matrix?"


def _of_sides(path: str, role: str, view: MatrixView) -> str | None:
    """Only where the name says no more than that it is a weight."""
    if role not in _UNSPECIFIC or re.search(r"lora|adapter", path, re.I):
        return None
    for _, fan_in, fan_out in view.sides:
        if max(fan_in, fan_out) > _LOPSIDED * min(fan_in, fan_out):
            what = "one side is over 20 times the other, as of an embedding or an output layer"
            return f"{fan_in} × {fan_out}: {what}"
    return None
