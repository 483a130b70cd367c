"""Knows how to say that an argument or a leaf is wrong: what it is, what is allowed."""

import math
from collections.abc import Callable, Iterator
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.tree_util import GetAttrKey, KeyPath


def path_name(path: KeyPath) -> str:
    """`["layers"][0]["kernel"].value` as `layers/0/kernel`; `.value` is a Flax variable's."""
    if path and path[-1] == GetAttrKey("value"):
        path = path[:-1]
    return jax.tree_util.keystr(path, simple=True, separator="/")


def prefixes(name: str) -> Iterator[str]:
    """Of the path `a/b/c`: itself, `a/b`, `a` and the empty path."""
    while name:
        yield name
        name = name.rpartition("/")[0]
    yield ""


class LeafError(ValueError):
    """What is wrong with one leaf of a tree, named by its path, shape and dtype.

    Attributes:
      path: The leaf's path, such as `"layers/0/kernel"`; empty for a bare array.
    """

    def __init__(self, path: str, leaf: Any, problem: str):
        what = f"{type(leaf).__name__} {leaf!r:.60}"
        if hasattr(leaf, "shape") and hasattr(leaf, "dtype"):
            what = f"shape {leaf.shape}, {leaf.dtype}"
        where = f"leaf {path!r}" if path else "the array"
        super().__init__(f"{where} ({what}): {problem}")
        self.path = path


def check_float_array(name: str, leaf: Any) -> None:
    """Refuse what cannot be trained: no array, or not of floats.

    Args:
      name: The leaf's path.
      leaf: An array or a `jax.ShapeDtypeStruct`.

    Raises:
      LeafError: If `leaf` has no shape, or an integer, boolean or key dtype.
    """
    if not hasattr(leaf, "shape") or not hasattr(leaf, "dtype"):
        raise LeafError(name, leaf, "not an array; pass only arrays, filter the rest out")
    if not jnp.issubdtype(leaf.dtype, jnp.inexact):
        raise LeafError(
            name,
            leaf,
            "only real or complex floats can be trained; filter this leaf out, or freeze "
            "it with optax.partition and optax.set_to_zero",
        )


def check_number(name: str, value: Any, allowed: str, holds: Callable[[float], bool]) -> None:
    """Refuse what is no finite Python or NumPy number in its range.

    Args:
      name: The argument's name.
      value: What was passed.
      allowed: The range in words, for the message.
      holds: Whether a finite float is in the range.

    Raises:
      ValueError: If `value` is not a number, not finite, or out of range.
    """
    number = isinstance(value, int | float | np.number) and not isinstance(value, bool)
    if not number or not math.isfinite(value) or not holds(float(value)):
        raise ValueError(f"{name}={value!r}; use {allowed}")


def check_schedulable(
    name: str, value: Any, allowed: str, holds: Callable[[float], bool]
) -> None:
    """`check_number`, but a schedule or a traced value passes: its numbers come later."""
    if isinstance(value, jax.Array) and value.ndim:
        raise ValueError(f"{name} has shape {value.shape}; use {allowed}, or a schedule")
    if not callable(value) and not isinstance(value, jax.Array):
        check_number(name, value, f"{allowed}, or a schedule", holds)
