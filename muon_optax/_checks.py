"""Checks of arguments. Each error says what was passed and what is allowed."""

import difflib
import math
from collections.abc import Callable, Collection
from dataclasses import dataclass
from typing import Any, TypeVar

import jax
import jax.numpy as jnp
import numpy as np
from jax.core import Tracer
from jax.tree_util import KeyPath

Value = TypeVar("Value")


def check_number(name: str, value: Any, allowed: str, holds: Callable[[float], bool]) -> None:
    """Refuse anything but a finite Python or NumPy number in the allowed range.

    `allowed` describes the range in words, for the error. `holds` tests whether a finite float
    is in the range.
    """
    number = isinstance(value, int | float | np.number) and not isinstance(value, bool)
    if not number or not math.isfinite(value) or not holds(float(value)):
        raise ValueError(f"{name}={describe(value)}; use {allowed}")


def check_integer(name: str, value: Any, least: int = 1, allowed: str = "") -> None:
    """Refuse anything but an integer ≥ `least`. A float such as 3.0 is refused, too."""
    if isinstance(value, bool) or not isinstance(value, int | np.integer) or value < least:
        allowed = allowed or f"a whole number ≥ {least}"
        raise ValueError(f"{name}={describe(value)}; use {allowed}")


def check_choice(name: str, value: Any, choices: Collection[str]) -> None:
    """Refuse anything but one of the names in `choices`."""
    if not isinstance(value, str) or value not in choices:
        near = nearest(value, choices)
        raise ValueError(f"{name}={describe(value)}; use one of {sorted(choices)}{near}")


def describe(value: Any) -> str:
    """Describe a value in one line for a message, with the shapes and dtypes of arrays.

    >>> describe(0.5), describe(np.ones((2, 3))), describe({"up": {"kernel": np.ones((2, 3))}})
    ('0.5', '<float64 array of shape (2, 3)>', "<dict with 1 array, first 'up/kernel'>")
    """
    arrays = find_arrays(value)
    if arrays and arrays[0]:
        first = jax.tree_util.keystr(arrays[0], simple=True, separator="/")
        noun = "array" if len(arrays) == 1 else "arrays"
        return f"<{type(value).__name__} with {len(arrays)} {noun}, first {first!r}>"
    if arrays and not isinstance(value, jax.ShapeDtypeStruct):
        return f"<{value.dtype} array of shape {value.shape}>"
    text = " ".join(repr(value).split())
    return text if len(text) <= 80 else f"{text[:79]}…"


def find_arrays(tree: Any) -> list[KeyPath]:
    """Return the paths of all arrays in a tree except scalars."""
    leaves = jax.tree.leaves_with_path(tree)
    return [path for path, leaf in leaves if getattr(leaf, "ndim", 0)]


def nearest(value: Any, choices: Collection[str]) -> str:
    """Return `; did you mean …?` with the most similar choice, or "" if none is similar."""
    found = difflib.get_close_matches(value, choices, 1) if isinstance(value, str) else []
    return f"; did you mean {found[0]!r}?" if found else ""


class Choices(dict[str, Value]):
    """A dict whose keys are public names. Its `KeyError` lists these names.

    >>> Choices(fast=1, slow=2)["fsat"]
    Traceback (most recent call last):
    KeyError: "'fsat' is not one of ['fast', 'slow']; did you mean 'fast'?"
    """

    def __missing__(self, name: Any) -> Value:
        raise KeyError(f"{describe(name)} is not one of {sorted(self)}{nearest(name, self)}")


def suggest_static(name: str, value: Any, kinds: Any = jax.Array) -> str:
    """Return advice about an argument that `optax.inject_hyperparams` may have changed, or "".

    `inject_hyperparams` turns an integer into an array, and calls a function with the step.
    """
    suggested = f'; under optax.inject_hyperparams, pass static_args="{name}"'
    return suggested if isinstance(value, kinds) and not getattr(value, "ndim", 0) else ""


def check_traceable(
    name: str, value: Any, allowed: str, holds: Callable[[float], bool]
) -> None:
    """Check a number like `check_number`, but accept a scalar `jax.Array`: it may be traced."""
    if not isinstance(value, jax.Array) or value.ndim:
        check_number(name, python_number(value), allowed, holds)


def check_schedulable(
    name: str, value: Any, allowed: str, holds: Callable[[float], bool]
) -> Any:
    """Check a number like `check_traceable`; wrap a schedule so that its numbers are checked.

    >>> check_schedulable("beta", lambda step: None, "a number", lambda _: True)(0)
    Traceback (most recent call last):
    ValueError: beta(step)=None; use a schedule that returns a number
    """
    if isinstance(value, CheckedSchedule):
        return value
    if callable(value):
        allowed = f"a schedule that returns {allowed}"
        return CheckedSchedule(f"{name}(step)", value, allowed, holds)
    check_traceable(name, value, f"{allowed}, or a schedule", holds)
    return python_number(value)


@dataclass(frozen=True)
class CheckedSchedule:
    """A schedule that checks each number it returns, unless it is traced."""

    name: str
    schedule: Callable[[Any], Any]
    allowed: str
    holds: Callable[[float], bool]

    def __call__(self, step: Any) -> Any:
        try:
            number = self.schedule(step)
        except Exception as error:
            error.add_note(f"raised by {self.name}; use {self.allowed}")
            raise
        check_traceable(self.name, number, self.allowed, self.holds)
        return number


def check_start(value: Any) -> None:
    """Refuse a schedule whose first number is out of range. A traced number passes."""
    if isinstance(value, CheckedSchedule):
        number = value(jnp.zeros([], jnp.int32))
        if isinstance(number, jax.Array) and not isinstance(number, Tracer):
            check_number(value.name, number.item(), value.allowed, value.holds)


def python_number(value: Any) -> Any:
    """Turn a NumPy scalar into a Python number, so that a product keeps the array's dtype."""
    is_scalar = isinstance(value, np.generic | np.ndarray) and value.ndim == 0
    return value.item() if is_scalar else value


def is_function(value: Any) -> bool:
    """Return whether a value is a function to call, and not a tree that happens to be callable.

    An Equinox model is callable. So is every tree with its structure, such as a tree of labels,
    masks or specs.
    """
    is_tree = not jax.tree_util.treedef_is_leaf(jax.tree.structure(value))
    return callable(value) and (isinstance(value, jax.tree_util.Partial) or not is_tree)
