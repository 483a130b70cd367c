"""The collectives of a compiled program, the bytes they move, and its matrix products."""

import math
import re
from collections import Counter
from collections.abc import Callable, Iterable
from dataclasses import dataclass

from benchmarks.groups import group
from benchmarks.instructions import Executed, Program, parts, size_in_bytes
from benchmarks.products import product

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


@dataclass(frozen=True)
class Collective:
    """One collective of a program, as one device sees it.

    Attributes:
      kind: A key of `RECEIVED`; what is started and done counts once.
      bytes: Of its result.
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
      ValueError: If it is no HLO, or the trip count of a loop around one is not known.
    """
    program = Program(text)
    everyone, continued = devices(text), _continued(program)
    found = []
    for at in program.executed():
        if at.instruction.name not in continued and (one := collective(at, everyone)):
            found.append(one)
    return found


def collective(at: Executed, everyone: int) -> Collective | None:
    """What an instruction exchanges among more than one device, if anything.

    Args:
      at: An instruction; of two that start and finish a collective, the first is it.
      everyone: The number of devices of the program.
    """
    line = at.instruction
    kind = line.opcode.removesuffix("-start")
    if kind not in RECEIVED or len(exchanging := group(line.text, everyone)) == 1:
        return None
    size = _bytes(line.result, kind, line.opcode != kind)
    return Collective(kind, size, exchanging, _times(at), at.in_loop)


def devices(text: str) -> int:
    """How many a program is for."""
    return math.prod(map(int, re.findall(r"(?:num_partitions|replica_count)=(\d+)", text)))


def _continued(program: Program) -> set[str]:
    """Names of collectives that only go on: in a fusion of a TPU that does not start them."""
    names = {
        name
        for lines in program.computations.values()
        for line in lines
        if line.opcode == "fusion"
        for name in line.called
    }
    inside = [program.computations[name] for name in names if name in program.computations]
    return {
        line.name
        for lines in inside
        if not any(ASYNC_START in line.text for line in lines)
        for line in lines
        if line.opcode in RECEIVED
    }


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
