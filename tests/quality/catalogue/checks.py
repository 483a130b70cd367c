"""Rows of the catalogue, and the checks they share: close, finite, refused, announced."""

import re
import warnings
from collections import defaultdict
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import jax
import numpy as np

from tests.quality.catalogue.libraries import Library, NotOffered


class Wrong(AssertionError):
    """The library does not do what the row expects; the message says what it does."""


class Row(NamedTuple):
    """One input, what is expected of an optimizer, and a check that raises if it is not met."""

    number: int
    input: str
    expected: str
    check: Callable[[Library], None]

    def __str__(self) -> str:
        return f"{self.number}-{self.input}"


def row(number: int, input: str, expected: str) -> Callable[[Callable], Row]:
    """Turn a check into a row of the catalogue."""
    return lambda check: Row(number, input, expected, check)


def judge(row: Row, library: Library) -> dict[str, str]:
    """The outcome of a row for the docs, with one line on what was seen where it is wrong."""
    try:
        with warnings.catch_warnings(action="ignore"):
            row.check(library)
    except NotOffered as option:
        return {"outcome": "not offered", "observation": str(option)}
    except Exception as error:
        text = (str(error).splitlines() or [""])[0]
        text = text if len(text) <= 100 else f"{text[:97]}..."
        text = text if isinstance(error, Wrong) else f"{type(error).__name__}: {text}"
        return {"outcome": "wrong", "observation": text}
    return {"outcome": "right", "observation": ""}


def double(x: Any) -> np.ndarray:
    """An array in float64 or complex128."""
    return np.asarray(x, np.complex128 if np.iscomplexobj(x) else np.float64)


def check_close(found: Any, expected: Any, tolerance: float, what: str = "update") -> None:
    """Fail unless an array is finite and within the tolerance, entry by entry."""
    found, expected = double(found), double(expected)
    if found.shape != expected.shape:
        raise Wrong(f"{what} has shape {found.shape}, not {expected.shape}")
    check_finite(found, what)
    error = np.abs(found - expected).max(initial=0)
    if error > tolerance:
        raise Wrong(f"{what} is off by {error:.1g}" if found.any() else f"{what} is 0")


def check_finite(tree: Any, what: str) -> None:
    """Fail if a tree has a NaN or an infinity."""
    if not all(np.isfinite(double(leaf)).all() for leaf in jax.tree.leaves(tree)):
        raise Wrong(f"{what} is not finite")


def check_refused(pattern: str, calls: Mapping[Any, Callable[[], Any]]) -> None:
    """Fail unless each call raises a ValueError or TypeError whose message matches."""
    failures = defaultdict(list)
    for label, call in calls.items():
        try:
            updates = call()
        except NotOffered:
            raise
        except (ValueError, TypeError) as error:
            if not re.search(pattern, str(error), re.DOTALL):
                failures[f"{type(error).__name__} that does not name it"].append(label)
        except Exception as error:
            failures[type(error).__name__].append(label)
        else:
            finite = all(np.isfinite(double(x)).all() for x in jax.tree.leaves(updates))
            failures["accepted" if finite else "accepted, update not finite"].append(label)
    if failures:
        texts = [f"{what}: {', '.join(map(str, labels))}" for what, labels in failures.items()]
        raise Wrong("; ".join(texts))


def check_announced(pattern: str, calls: Mapping[str, Callable[[], Any]]) -> None:
    """Fail unless each call warns, or raises a ValueError or TypeError, in matching words."""
    silent = []
    for label, call in calls.items():
        with warnings.catch_warnings(record=True, action="always") as messages:
            try:
                call()
            except (TypeError, ValueError) as error:
                messages.append(error)
        if not any(re.search(pattern, str(message)) for message in messages):
            silent.append(label)
    if silent:
        raise Wrong(f"no warning or error: {', '.join(silent)}")
