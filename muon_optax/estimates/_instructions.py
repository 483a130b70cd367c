"""The instructions of a compiled program, how often each runs, and the sizes of arrays."""

import math
import re
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property

from muon_optax.estimates._trips import attribute, trips

_INSTRUCTION = re.compile(r"\s*(?:ROOT )?%?([\w.-]+) = (.+?) ([a-z][\w-]*)\(")
_COMPUTATION = re.compile(r"(ENTRY )?%?([\w.-]+) \(.*\{$")
_CALLED = re.compile(r"(?:body|condition|calls|to_apply|\w+_computation)=%?([\w.-]+)")
_BRANCHES = re.compile(r"branch_computations=\{([^}]*)\}")
_ARRAY = re.compile(r"\b([a-z]\w*)\[([\d,<=]*)\](\{[^}]*\})?")
_CONTROL = ("while", "conditional", "call")


@dataclass(frozen=True)
class Instruction:
    """One line of a program.

    Attributes:
      text: The line.
      name: The instruction's name without `%`, unique in a program.
      result: The type of the result, such as `f32[2,3]{1,0}`, or a tuple of types.
      opcode: The instruction's operation, such as `dot`.
      called: The names of the computations that the instruction calls.
    """

    text: str
    name: str
    result: str
    opcode: str
    called: tuple[str, ...]

    @cached_property
    def operands(self) -> tuple[str, ...]:
        """The names of the instruction's operands."""
        rest = self.text.partition(f" {self.opcode}(")[2]
        depth, end = 1, 0
        while depth and end < len(rest):
            depth += {"(": 1, ")": -1}.get(rest[end], 0)
            end += 1
        return tuple(re.findall(r"%([\w.-]+)", rest[:end]))

    @property
    def is_root(self) -> bool:
        """Whether the instruction's value is the result of its computation."""
        return self.text.lstrip().startswith("ROOT ")


@dataclass(frozen=True)
class Executed:
    """An instruction at one of the places where it runs.

    Attributes:
      instruction: The instruction.
      times: How often it runs in one call of the program; None if a trip count is unknown.
      in_loop: Whether it is in the body of a loop.
      fused: Whether it is a part of another instruction, such as a fusion or a reduction.
    """

    instruction: Instruction
    times: int | None
    in_loop: bool
    fused: bool


class Program:
    """The program of `compiled.as_text()`: optimized HLO for a CPU, GPU or TPU.

    Raises:
      ValueError: If the text is not HLO.
    """

    def __init__(self, text: str):
        self.computations: dict[str, list[Instruction]] = {}
        self.entry, lines = "", []
        for line in text.splitlines():
            if head := _COMPUTATION.match(line):
                lines = self.computations.setdefault(head[2], [])
                self.entry = head[2] if head[1] else self.entry
            elif found := _INSTRUCTION.match(line):
                called = _called(line, found[3])
                lines.append(Instruction(line, found[1], found[2], found[3], called))
        if not self.entry:
            raise ValueError(
                f"{text[:40]!r}… is not HLO with an ENTRY; pass compiled.as_text()"
            )
        every = (line for lines in self.computations.values() for line in lines)
        self.by_name = {line.name: line for line in every}

    def executed(self) -> Iterator[Executed]:
        """Yield every instruction, and after a call the instructions of what it calls."""
        yield from self._walk(self.entry, 1, False, False)

    def inside(self, instruction: Instruction) -> Iterator[Instruction]:
        """Yield the instruction and all instructions that are parts of it."""
        yield instruction
        for name in instruction.called:
            for line in self.computations.get(name, ()):
                yield from self.inside(line)

    def _walk(self, name: str, times: int | None, in_loop: bool, fused: bool):
        for line in self.computations.get(name, ()):
            yield Executed(line, times, in_loop, fused)
            loops = line.opcode == "while"
            each = trips(line, self) if loops else 1
            inside = None if times is None or each is None else times * each
            for called in line.called:
                is_condition = loops and called == attribute(line, "condition")
                part = fused or line.opcode not in _CONTROL or is_condition
                yield from self._walk(called, inside, in_loop or loops, part)


def _called(line: str, opcode: str) -> tuple[str, ...]:
    """Return the computations that an instruction calls; none for the end of an async call."""
    if opcode.endswith(("-done", "-update")):
        return ()
    branches = _BRANCHES.search(line)
    named = re.findall(r"[\w.-]+", branches[1]) if branches else []
    return (*_CALLED.findall(line), *named)


def arrays(result: str) -> list[tuple[str, list[int], str]]:
    """Return dtype, shape and layout of every array in a type."""
    found = _ARRAY.findall(result)
    return [(dtype, lengths(sides), layout) for dtype, sides, layout in found]


def size_in_bytes(result: str) -> int:
    """Return the bytes of all arrays in a type."""
    return sum(math.prod(sides) * _width(dtype) // 8 for dtype, sides, _ in arrays(result))


def parts(result: str) -> list[str]:
    """Return the types of a tuple's elements."""
    found, depth = [""], 0
    for letter in result[1:-1]:
        depth += (letter in "([{") - (letter in ")]}")
        if letter == "," and depth == 0:
            found.append("")
        else:
            found[-1] += letter
    return found


def lengths(sides: str) -> list[int]:
    """Return the numbers in a list such as `2,3`."""
    return [int(x) for x in re.findall(r"\d+", sides)]


def _width(dtype: str) -> int:
    """Return the bits of a number; for a complex dtype, those of both parts together."""
    digits = re.search(r"\d+", dtype)
    return int(digits[0]) if digits else 8 if dtype == "pred" else 0
