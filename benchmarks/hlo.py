"""The collectives of a compiled program, the bytes they move, and its matrix products."""

import math
import re
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass

# Kind → bytes that a device receives of a buffer with one byte, in a group of n. Of an
# all-reduce that is what an optimal one takes: a reduce-scatter, then an all-gather.
RECEIVED: dict[str, Callable[[int], float]] = {
    "all-gather": lambda n: (n - 1) / n,
    "all-to-all": lambda n: (n - 1) / n,
    "all-reduce": lambda n: 2 * (n - 1) / n,
    "reduce-scatter": lambda n: n - 1,  # the buffer is the result, a part
    "collective-permute": lambda n: 1.0,
    "collective-broadcast": lambda n: 1.0,
}
_INSTRUCTION = re.compile(r"\s*(?:ROOT )?%?([\w.-]+) = (.+?) ([a-z][\w-]*)\(")
_COMPUTATION = re.compile(r"(ENTRY )?%?([\w.-]+) \(.*\{$")
_CALLED = re.compile(r"(?:body|condition|calls|to_apply|\w+_computation)=%?([\w.-]+)")
_BRANCHES = re.compile(r"branch_computations=\{([^}]*)\}")
_TRIPS = re.compile(r'"known_trip_count":\{"n":"(\d+)"')
_ARRAY = re.compile(r"\b([a-z]\w*)\[([\d,<=]*)\]")


@dataclass(frozen=True)
class Collective:
    """One collective of a program, as one device sees it.

    Attributes:
      kind: A key of `RECEIVED`; what is started and done counts once.
      bytes: Of its result.
      group: How many devices exchange.
      times: How often it runs in one call of the program. A branch counts as taken.
      in_loop: Whether it is in the body of a loop.
    """

    kind: str
    bytes: int
    group: int
    times: int
    in_loop: bool

    @property
    def received(self) -> float:
        """Bytes that each device receives, all runs together."""
        return self.times * self.bytes * RECEIVED[self.kind](self.group)


@dataclass(frozen=True)
class _Line:
    text: str
    result: str
    opcode: str
    called: tuple[str, ...]


def collectives(text: str) -> list[Collective]:
    """All of a program, from `compiled.as_text()`.

    Args:
      text: Optimised HLO of a CPU, GPU or TPU.

    Returns:
      In the order of the text, those of a called computation where it is called. What a
      group of one exchanges is left out.

    Raises:
      ValueError: If it is no HLO, or the trip count of a loop around one is not known.
    """
    everyone = math.prod(map(int, re.findall(r"(?:num_partitions|replica_count)=(\d+)", text)))
    found = []
    for line, times, in_loop in _run(text):
        kind = line.opcode.removesuffix("-start")
        if kind in RECEIVED:
            if times is None:
                raise ValueError(f"no trip count of the loop around {line.text.strip()!r}")
            started = line.opcode != kind
            group = _group(line.text, everyone)
            one = Collective(kind, _bytes(line.result, kind, started), group, times, in_loop)
            found += [one] if group > 1 else []
    return found


def count(found: Iterable[Collective]) -> dict[str, int]:
    """Kind → how many run in one call."""
    kinds: Counter[str] = Counter()
    for collective in found:
        kinds[collective.kind] += collective.times
    return dict(kinds)


def flops(text: str) -> int:
    """Of all matrix products in one call, a multiplication and an addition counting as two.

    XLA's own `cost_analysis` takes the body of a loop once; here it counts as often as it
    runs, and a branch as taken: what the device with the most to do has.

    Raises:
      ValueError: If it is no HLO, or the trip count of a loop around one is not known.
    """
    results = dict(
        re.findall(r"^\s*(?:ROOT )?%([\w.-]+) = \w+\[([\d,]*)\]", text, re.MULTILINE)
    )
    total = 0
    for line, times, _ in _run(text):
        if line.opcode == "dot":
            if times is None:
                raise ValueError(f"no trip count of the loop around {line.text.strip()!r}")
            left = re.search(r" dot\([^%]*%([\w.-]+)", line.text)[1]
            axes = re.search(r"lhs_contracting_dims=\{([\d,]*)\}", line.text)[1]
            sides = _lengths(results[left])
            summed = math.prod(sides[axis] for axis in _lengths(axes))
            total += 2 * times * math.prod(_lengths(_ARRAY.search(line.result)[2])) * summed
    return total


def _run(text: str) -> Iterator[tuple[_Line, int | None, bool]]:
    """Every instruction where it runs: how often, None if unknown, and whether in a loop."""
    computations: dict[str, list[_Line]] = {}
    entry, lines = "", []
    for line in text.splitlines():
        if head := _COMPUTATION.match(line):
            lines = computations.setdefault(head[2], [])
            entry = head[2] if head[1] else entry
        elif found := _INSTRUCTION.match(line):
            lines.append(_Line(line, found[2], found[3], _called(line, found[3])))

    if not entry:
        raise ValueError(f"{text[:40]!r}… is no HLO with an ENTRY; pass compiled.as_text()")

    def walk(name: str, times: int | None, in_loop: bool):
        for line in computations.get(name, ()):
            yield line, times, in_loop
            loops, trips = line.opcode == "while", _TRIPS.search(line.text)
            each = int(trips[1]) if loops and trips else None if loops else 1
            inside = None if times is None or each is None else times * each
            for called in line.called:
                yield from walk(called, inside, in_loop or loops)

    yield from walk(entry, 1, False)


def _called(line: str, opcode: str) -> tuple[str, ...]:
    """What an instruction calls; the end of an asynchronous call is not another one."""
    if opcode.endswith(("-done", "-update")):
        return ()
    branches = _BRANCHES.search(line)
    named = re.findall(r"[\w.-]+", branches[1]) if branches else []
    return (*_CALLED.findall(line), *named)


def _bytes(result: str, kind: str, started: bool) -> int:
    """Of the buffer; what is started gives `(operands, result, …)`, but for an all-reduce."""
    if started and kind != "all-reduce":
        result = _parts(result)[1]
    return sum(
        math.prod(_lengths(dims)) * _width(dtype) // 8 for dtype, dims in _ARRAY.findall(result)
    )


def _parts(result: str) -> list[str]:
    """The elements of a tuple's type."""
    parts, depth = [""], 0
    for letter in result[1:-1]:
        depth += (letter in "([{") - (letter in ")]}")
        if letter == "," and depth == 0:
            parts.append("")
        else:
            parts[-1] += letter
    return parts


def _width(dtype: str) -> int:
    """In bits: a complex number's has both parts."""
    digits = re.search(r"\d+", dtype)
    return int(digits[0]) if digits else 8 if dtype == "pred" else 0


def _group(line: str, everyone: int) -> int:
    """How many devices are in a replica group, in each of the forms that XLA prints."""
    if found := re.search(r"replica_groups=\[\d+,(\d+)\]", line):  # [groups,size]<=[...]
        return int(found[1])
    if found := re.search(r"replica_groups=\{\{([\d,]*)\}", line):
        return len(_lengths(found[1]))
    if found := re.search(r"replica_groups=mesh\[([^\]]*)\].*? \{([^}]*)\}", line):
        sizes = dict(re.findall(r"('[^']*')=(\d+)", found[1]))
        axes = re.findall(r"('[^']*')(?::\(\d+\)(\d+))?", found[2])  # 'a', or a part, 'a':(1)2
        return math.prod(int(part or sizes[name]) for name, part in axes)
    return everyone  # replica_groups={}, and pairs of a permutation


def _lengths(dims: str) -> list[int]:
    return [int(x) for x in re.findall(r"\d+", dims)]
