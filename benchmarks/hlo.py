"""The collectives of a compiled program, the bytes they move, and its matrix products."""

import math
import re
from collections import Counter
from collections.abc import Callable, Iterable
from dataclasses import dataclass

from benchmarks.groups import group
from muon_optax.estimates._instructions import (
    Executed,
    Instruction,
    Program,
    parts,
    size_in_bytes,
)
from muon_optax.estimates._products import product

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


# What a TPU's compiler adds to fusions that start and finish an asynchronous collective. The
# same collective is printed in both, and in every fusion between them that helps it on.
ASYNC_START = 'custom_call_target="AsyncCollectiveStart"'
ASYNC_DONE = 'custom_call_target="AsyncCollectiveDone"'
_CHANNEL = re.compile(r"channel_id=(\d+)")


@dataclass(frozen=True)
class Collective:
    """One collective of a program, as one device sees it.

    Attributes:
      kind: A key of `RECEIVED`; what is started and done counts once.
      bytes: Of its result; of an all-reduce the mean of operand and result.
      group: The devices that exchange, by number; of all groups that do so at a time one.
      times: How often it runs in one call of the program. A branch counts as taken.
      in_loop: Whether it is in the body of a loop.
    """

    kind: str
    bytes: float
    group: tuple[int, ...]
    times: int = 1
    in_loop: bool = False

    @property
    def received(self) -> float:
        """Bytes that each device receives, all runs together."""
        return self.times * self.bytes * RECEIVED[self.kind](len(self.group))


def collectives(text: str) -> list[Collective]:
    """All of a program, from `compiled.as_text()`.

    Args:
      text: Optimised HLO of a CPU, GPU or TPU.

    Returns:
      In the order of the text, those of a called computation where it is called. What a
      group of one exchanges is left out.

    Raises:
      ValueError: If it is not HLO, or the trip count of a loop around one is not known.
    """
    program = Program(text)
    everyone, later = devices(text), continued(program)
    found = []
    for at in program.executed():
        if at.instruction.name not in later and (one := collective(at, program, everyone)):
            found.append(one)
    return found


def collective(at: Executed, program: Program, everyone: int) -> Collective | None:
    """What an instruction exchanges among more than one device, if anything.

    Args:
      at: An instruction; of two that start and finish a collective, the first is it.
      program: What it is a part of.
      everyone: The number of devices of the program.
    """
    line = at.instruction
    kind = line.opcode.removesuffix("-start")
    if kind not in RECEIVED or len(exchanging := group(line.text, everyone)) == 1:
        return None
    size = _bytes(line.result, kind, line.opcode != kind)
    if kind == "all-reduce":
        size = (_operand_bytes(line, program) or size) / 2 + size / 2
        if at.fused and (part := _part(line, program)):
            kind, size = "reduce-scatter", size_in_bytes(part.result)
    return Collective(kind, size, exchanging, _times(at), at.in_loop)


def devices(text: str) -> int:
    """How many a program is for, by its first line."""
    header = text.partition("\n")[0]
    return math.prod(map(int, re.findall(r"(?:num_partitions|replica_count)=(\d+)", header)))


def continued(program: Program) -> set[str]:
    """Names of collectives that only go on: in fusions of a TPU, what another one starts."""
    fused = [
        (line, any(ASYNC_START in other.text for other in lines))
        for lines in map(program.computations.get, _fusions(program))
        for line in lines or ()
        if line.opcode in RECEIVED
    ]
    started = {_key(line) for line, is_start in fused if is_start}
    return {line.name for line, is_start in fused if not is_start and _key(line) in started}


def _fusions(program: Program) -> set[str]:
    """The names of the computations of fusions."""
    lines = (line for lines in program.computations.values() for line in lines)
    return {name for line in lines if line.opcode == "fusion" for name in line.called}


def _key(line: Instruction) -> tuple[str, str]:
    """Equal where a collective is printed several times."""
    return line.opcode, channel(line)


def channel(line: Instruction) -> str:
    """The number by which XLA knows a collective, or ""."""
    found = _CHANNEL.search(line.text)
    return found[1] if found else ""


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
      ValueError: If it is not HLO, or the trip count of a loop around one is not known.
    """
    program, total = Program(text), 0
    for at in program.executed():
        if found := product(at.instruction, program):
            total += found.flops * _times(at)
    return total


def _times(at: Executed) -> int:
    if at.times is None:
        line = at.instruction.text.strip()
        raise ValueError(f"no trip count of the loop around {line!r}")
    return at.times


def _bytes(result: str, kind: str, started: bool) -> int:
    """Of the buffer; what is started gives `(operands, result, …)`, but for an all-reduce."""
    return size_in_bytes(parts(result)[1] if started and kind != "all-reduce" else result)


def _operand_bytes(line: Instruction, program: Program) -> int:
    """Of an all-reduce: a TPU rounds some sums before it returns them."""
    known = program.by_name
    return sum(size_in_bytes(known[name].result) for name in line.operands if name in known)


def _part(summed: Instruction, program: Program) -> Instruction | None:
    """What a fusion of a TPU keeps of a sum: its own part only is a reduce-scatter."""
    lines = next(lines for lines in program.computations.values() if summed in lines)
    last = next(line for line in lines if line.is_root)
    is_part = last.opcode == "dynamic-slice" and last.operands[0] == summed.name
    return last if is_part else None
