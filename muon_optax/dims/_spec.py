"""Knows the strings that say of every axis of an array what it is, such as `"... in out out"`.

    spec   = ["..."] axis {axis}              one word for each axis of the array
    axis   = factor | "(" factor {factor} ")" in brackets: one axis that is a product
    factor = name ["=" size] ["[" part {part} "]"]
    part   = name ["=" size]                  matrices of their own, one after another

The name `in` is an axis that the layer sums over, `out` one that remains, any other a batch
axis.
"""

import functools
import re
from dataclasses import dataclass

_TOKEN = re.compile(r"\s*(?:(\.\.\.)|([A-Za-z_]\w*)|(\d+)|(.))")


class SpecError(ValueError):
    """What is wrong with a string, and where."""

    def __init__(self, owner: str, text: str, position: int, problem: str):
        super().__init__(
            f"the spec of {owner} is wrong:\n  {text}\n  {' ' * position}^ {problem}\n"
            "write one word for each axis: in, out, or a name for a batch axis; (heads=12 out) "
            "for an axis that is a product, out[q=64 k=16 v=16] or out[q k v] for parts, "
            "... in front for any leading batch axes; spaces between them"
        )


@dataclass(frozen=True)
class Factor:
    """One axis of an array, or one factor of it.

    Attributes:
      name: `in`, `out`, or any other for a batch axis.
      size: Its length, None where it follows from the array.
      parts: The lengths of the matrices that lie along it, None where all are equal; empty for
        a single one.
      position: Where it stands in the string.
    """

    name: str
    size: int | None
    parts: tuple[int | None, ...]
    position: int


@dataclass(frozen=True)
class AxisNames:
    """What a string says.

    Attributes:
      axes: The factors of every axis.
      leading: Whether batch axes may come before.
    """

    axes: tuple[tuple[Factor, ...], ...]
    leading: bool

    def fits(self, ndim: int) -> bool:
        """Whether an array can have so many axes."""
        return ndim >= len(self.axes) if self.leading else ndim == len(self.axes)


@functools.lru_cache
def parse(text: str, owner: str) -> AxisNames:
    """Read a string.

    Args:
      text: See the module.
      owner: Whose spec it is, for the error.

    Returns:
      What it says of each axis.

    Raises:
      SpecError: If it cannot be read, lacks `in` or `out`, or has parts twice or elsewhere.

    Example:
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
    """The tokens of a string, one after another."""

    def __init__(self, text: str, owner: str):
        self.text, self.owner, self.end = text.rstrip(), owner, 0
        self.advance()

    def advance(self) -> None:
        found = _TOKEN.match(self.text, self.end)
        self.token = found.group().strip() if found else ""
        self.end = found.end() if found else len(self.text)
        self.position = self.end - len(self.token)

    def take(self, token: str) -> str | None:
        """The next token if it is this one."""
        return self.pop() if self.token == token else None

    def pop(self) -> str:
        token = self.token
        self.advance()
        return token

    def error(self, problem: str) -> SpecError:
        return SpecError(self.owner, self.text, self.position, problem)

    def close(self, bracket: str) -> bool:
        """Whether the bracket ends here; it has to end somewhere."""
        if not self.token:
            raise self.error(f"{bracket!r} is missing")
        return self.take(bracket) is not None

    def name(self) -> str:
        if not self.token.isidentifier():
            found = repr(self.token) if self.token else "the end"
            raise self.error(f"a name is due here, not {found}")
        return self.pop()

    def size(self) -> int | None:
        if not self.take("="):
            return None
        # Ten digits: an axis is shorter, and int() fails at some length.
        decimal = self.token.isascii() and self.token.isdecimal() and len(self.token) <= 10
        if not decimal or not int(self.token):
            raise self.error("a size is due here, a number ≥ 1 of at most ten digits")
        return int(self.pop())

    def factor(self) -> Factor:
        position, name, size, parts = self.position, self.name(), self.size(), []
        if self.take("["):
            while not parts or not self.close("]"):
                self.name()
                parts.append(self.size())
        return Factor(name, size, tuple(parts), position)


def _check(text: str, owner: str, factors: list[Factor]) -> None:
    for side in ("in", "out"):
        if all(factor.name != side for factor in factors):
            others = [factor.name for factor in factors if factor.name not in ("in", "out")]
            batch = f"; batch axes are {', '.join(others)}" if others else ""
            raise SpecError(owner, text, len(text), f"no axis is {side!r}{batch}")
    divided = [factor for factor in factors if factor.parts]
    for factor in divided:
        if factor.name not in ("in", "out"):
            problem = (
                "a batch axis has a matrix at every index already; parts are for in or out"
            )
            raise SpecError(owner, text, factor.position, problem)
        known = [part is not None for part in factor.parts]
        if any(known) and not all(known):
            raise SpecError(owner, text, factor.position, "give all its parts a size, or none")
    if len(divided) > 1:
        raise SpecError(owner, text, divided[1].position, "only one axis may have parts")
