"""Knows what a row of the catalogue is, and whether a library does what it expects."""

import re
import warnings
from collections import defaultdict
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import jax
import numpy as np

from benchmarks.catalogue.libraries import Library, NotOffered

RIGHT, WRONG, NOT_OFFERED = "right", "wrong", "not offered"


class Wrong(AssertionError):
    """A library does not do what is expected; the message says what it does."""


class Row(NamedTuple):
    """One input that an optimizer has to bear.

    Attributes:
      number: Its place in the catalogue.
      input: What is put in.
      expected: What has to come of it.
      check: Raises `Wrong`, or what the library itself raises, unless that comes of it.
    """

    number: int
    input: str
    expected: str
    check: Callable[[Library], None]

    def __str__(self) -> str:
        return f"{self.number}-{self.input}"


def row(number: int, input: str, expected: str) -> Callable[[Callable], Row]:
    """Make a check a row of the catalogue."""
    return lambda check: Row(number, input, expected, check)


def judge(row: Row, library: Library) -> dict[str, str]:
    """The outcome of a row, and in a line what was seen where it is not right."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # what a row wants to see it records itself
            row.check(library)
    except NotOffered as option:
        return {"outcome": NOT_OFFERED, "observation": str(option)}
    except Exception as error:
        return {"outcome": WRONG, "observation": _line(error)}
    return {"outcome": RIGHT, "observation": ""}


def wide(x: Any) -> np.ndarray:
    """In float64, or complex128."""
    return np.asarray(x, np.complex128 if np.iscomplexobj(x) else np.float64)


def agree(found: Any, expected: Any, tolerance: float, what: str = "update") -> None:
    """Refuse an array that is not finite, or differs by more than the tolerance."""
    found, expected = wide(found), wide(expected)
    if found.shape != expected.shape:
        raise Wrong(f"{what} has shape {found.shape}, not {expected.shape}")
    if not np.isfinite(found).all():
        raise Wrong(f"{what} is not finite")
    off = np.abs(found - expected).max(initial=0)
    if off > tolerance:
        raise Wrong(f"{what} is {'0' if not found.any() else f'off by {off:.1g}'}")


def check_finite(tree: Any, what: str) -> None:
    """Refuse a tree in which a number is not finite."""
    for leaf in jax.tree.leaves(tree):
        if not np.isfinite(wide(leaf)).all():
            raise Wrong(f"{what} is not finite")


def check_refused(named: str, calls: Mapping[Any, Callable[[], Any]]) -> None:
    """Each call has to raise a ValueError or TypeError whose message matches `named`."""
    seen = defaultdict(list)
    for label, call in calls.items():
        try:
            updates = call()
        except NotOffered:
            raise
        except Exception as error:
            kind = type(error).__name__
            if not isinstance(error, ValueError | TypeError):
                seen[kind].append(label)
            elif not re.search(named, str(error), re.DOTALL):
                seen[f"{kind} that does not name it"].append(label)
        else:
            finite = all(np.isfinite(wide(x)).all() for x in jax.tree.leaves(updates))
            seen["accepted" if finite else "accepted, update not finite"].append(label)
    if seen:
        lists = (f"{what}: {', '.join(map(str, of))}" for what, of in seen.items())
        raise Wrong("; ".join(lists))


def _line(error: Exception) -> str:
    """The first line of an error, short enough for a table."""
    text = (str(error).splitlines() or [""])[0]
    short = text if len(text) <= 100 else f"{text[:97]}..."
    return short if isinstance(error, Wrong) else f"{type(error).__name__}: {short}"
