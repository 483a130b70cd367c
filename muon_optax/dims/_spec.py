"""The grammar of spec strings, which name each axis of an array: `"... in out out"`.

    spec   = ["..."] axis {axis}              one word for each axis of the array
    axis   = factor | "(" factor {factor} ")"     one axis; with brackets, a product
    factor = name ["=" size] ["[" part {part} "]"]
    part   = name ["=" size]                  one of several matrices along the axis

The layer sums over an `in` axis. An `out` axis is an axis of the layer's result. Any other name
means a batch axis, with one matrix for each index.
"""

import functools
import re
from dataclasses import dataclass

_TOKEN = re.compile(r"\s*(?:(\.\.\.)|([A-Za-z_]\w*)|(\d+)|(.))")


class SpecError(ValueError):
    """An error in a spec string. The message points at the position of the error."""

    def __init__(self, owner: str, text: str, position: int, problem: str):
        super().__init__(
            f"the spec of {owner} is wrong:\n  {text}\n  {' ' * position}^ {problem}\n"
            "Write one word for each axis, with spaces between them:\n"
            "  in                        the layer sums over this axis\n"
            "  out                       an axis of the layer's result\n"
            "  heads                     any other name: a batch axis\n"
            "  (heads=12 out)            one axis with several factors\n"
            "  out[q k v]                several matrices of equal size\n"
            "  out[q=64 k=16 v=16]       several matrices of these sizes\n"
            "  ...                       at the start: any number of batch axes"
        )


@dataclass(frozen=True)
class Factor:
    """An axis of an array, or one factor of an axis that is a product.

    Attributes:
      name: `in`, `out`, or any other name for a batch axis.
      size: The length; None if it follows from the array.
      parts: The lengths of the matrices along the axis, or None for each if the lengths are
        equal. Empty for a single matrix.
      position: The index of its first character in the string.
    """

    name: str
    size: int | None
    parts: tuple[int | None, ...]
    position: int


@dataclass(frozen=True)
class AxisNames:
    """A spec string after parsing.

    Attributes:
      axes: The factors of each axis.
      leading: Whether any number of batch axes may come first.
    """

    axes: tuple[tuple[Factor, ...], ...]
    leading: bool

    def fits(self, ndim: int) -> bool:
        """Whether the spec fits arrays with this number of axes."""
        return ndim >= len(self.axes) if self.leading else ndim == len(self.axes)


@functools.lru_cache
def parse(text: str, owner: str) -> AxisNames:
    """Parse a spec into the factors of each axis. A `SpecError` names `owner` as its origin.

    >>> [[factor.name for factor in axis] for axis in parse("in (heads=12 out)", "x").axes]
    [['in'], ['heads', 'out']]
    """
    reader = _Reader(text, owner)
    leading = reader.take("...") is not None
    axes = []
    while reader.token:
        if reader.take("("):
            factors = [reader.factor()]
            while not reader.close(")"):
                factors.append(reader.factor())
            axes.append(tuple(factors))
        else:
            axes.append((reader.factor(),))
    _check(text, owner, [factor for axis in axes for factor in axis])
    return AxisNames(tuple(axes), leading)


class _Reader:
    """The tokens of a string, read from left to right."""

    def __init__(self, text: str, owner: str):
        self.text, self.owner, self.end = text.rstrip(), owner, 0
        self.advance()

    def advance(self) -> None:
        found = _TOKEN.match(self.text, self.end)
        self.token = found.group().strip() if found else ""
        self.end = found.end() if found else len(self.text)
        self.position = self.end - len(self.token)

    def take(self, token: str) -> str | None:
        """Read the next token if it is `token`."""
        return self.pop() if self.token == token else None

    def pop(self) -> str:
        token = self.token
        self.advance()
        return token

    def error(self, problem: str) -> SpecError:
        return SpecError(self.owner, self.text, self.position, problem)

    def close(self, bracket: str) -> bool:
        """Read a closing bracket if it comes next; raise an error at the end of the string."""
        if not self.token:
            raise self.error(f"missing {bracket!r}")
        return self.take(bracket) is not None

    def name(self) -> str:
        if not self.token.isidentifier():
            found = repr(self.token) if self.token else "the end of the string"
            raise self.error(f"expected an axis name, got {found}")
        return self.pop()

    def size(self) -> int | None:
        if not self.take("="):
            return None
        # No axis is longer than ten digits, and int() refuses very long strings.
        decimal = self.token.isascii() and self.token.isdecimal() and len(self.token) <= 10
        if not decimal or not int(self.token):
            raise self.error("expected a size, a whole number ≥ 1 of at most ten digits")
        return int(self.pop())

    def factor(self) -> Factor:
        position, name, size, parts = self.position, self.name(), self.size(), []
        if self.take("["):
            while not parts or not self.close("]"):
                self.name()
                parts.append(self.size())
        return Factor(name, size, tuple(parts), position)


def _check(text: str, owner: str, factors: list[Factor]) -> None:
    """Refuse a spec without `in` or `out`, and parts in the wrong place."""
    names = [factor.name for factor in factors]
    for side in ("in", "out"):
        if side not in names:
            others = [name for name in names if name not in ("in", "out")]
            batch = f"; batch axes are {', '.join(others)}" if others else ""
            raise SpecError(owner, text, len(text), f"no axis is named {side!r}{batch}")
    divided = [factor for factor in factors if factor.parts]
    for factor in divided:
        if factor.name not in ("in", "out"):
            problem = (
                "only `in` and `out` axes can have parts, because a batch axis already has one "
                "matrix for each index"
            )
            raise SpecError(owner, text, factor.position, problem)
        sized = [part is not None for part in factor.parts]
        if any(sized) and not all(sized):
            problem = "give a size to every part or to none"
            raise SpecError(owner, text, factor.position, problem)
    if len(divided) > 1:
        raise SpecError(owner, text, divided[1].position, "only one axis can have parts")
