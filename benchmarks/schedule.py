"""When a compiled, scheduled program sends and when it computes: what of the wire is hidden.

A device runs the kernels of a program in their order, each for its estimated time. Collectives
share one wire, which takes them in the order of their starts, each for its modelled time. The
device waits where a collective has to be done and is not: that part of the wire is exposed.

    start A   kernel 3 s   start B   kernel 1 s   done A   done B
    wire:     A A A A A B B                       waits 1 s, then 2 s

Of these 7 seconds on the wire 4 are hidden. Nothing is measured.
"""

from collections.abc import Callable, Container, Iterator
from dataclasses import dataclass, field

from benchmarks.hlo import (
    ASYNC_DONE,
    ASYNC_START,
    Collective,
    channel,
    collective,
    continued,
    devices,
)
from muon_optax.estimates._instructions import Executed, Instruction, Program
from muon_optax.estimates._kernels import kernels
from muon_optax.estimates._targets import Target
from muon_optax.estimates._trips import attribute, trips


@dataclass(frozen=True)
class Transfer:
    """A collective in time.

    Attributes:
      moved: What it is.
      is_async: Whether it starts and is done in two places.
      seconds: On the wire, by the model.
      exposed: Those of them in which the device waits for the wire.
      products: The kernels with matrix products between its start and its end.
      between: The seconds of all kernels there.
    """

    moved: Collective
    is_async: bool
    seconds: float
    exposed: float
    products: int
    between: float

    @property
    def hidden(self) -> float:
        """The share of its seconds in which the device does not wait."""
        return 1 - self.exposed / self.seconds if self.seconds else 1.0


@dataclass(frozen=True)
class Schedule:
    """A program in time.

    Attributes:
      transfers: In the order of their starts; in a loop, as often as they run.
      computing: Seconds of all kernels.
      waiting: Seconds in which the device waits for the wire.
    """

    transfers: tuple[Transfer, ...]
    computing: float
    waiting: float

    @property
    def wire(self) -> float:
        """Seconds of all transfers, one after another."""
        return sum(transfer.seconds for transfer in self.transfers)

    @property
    def hidden(self) -> float:
        """The share of them in which the device computes; 1 if nothing is sent."""
        return 1 - self.waiting / self.wire if self.wire else 1.0


def schedule(text: str, target: Target, seconds: Callable[[Collective], float]) -> Schedule:
    """What a program would do in time, from `compiled.as_text()`.

    Args:
      text: Optimised and scheduled HLO.
      target: Whose compiler made it.
      seconds: Of a collective that has the wire for itself.

    Raises:
      ValueError: If the program has no schedule, or if the trip count of a loop is not known.
    """
    if "is_scheduled=true" not in text.partition("\n")[0]:
        raise ValueError("the program has no schedule; pass compiled.as_text() of a TPU or GPU")
    program, timeline = Program(text), _Timeline(seconds)
    by_name = {kernel.line.name: kernel for kernel in kernels(program, target)}
    unit = target.clock if target.kind == "tpu" else 1.0
    later, everyone = continued(program), devices(text)
    for line in _in_order(program, program.entry):
        role, name, moved = _event(line, program, later, everyone)
        if role in ("start", "both"):
            timeline.start(name, moved, is_async=role == "start")
        if role in ("done", "both"):
            timeline.finish(name)
        if kernel := by_name.get(line.name):
            timeline.compute((kernel.estimate or 0.0) / unit, bool(kernel.products))
    return timeline.schedule()


def _in_order(program: Program, computation: str) -> Iterator[Instruction]:
    """The instructions that run, those of a loop as often as it runs; every branch is taken."""
    for line in program.computations[computation]:
        yield line
        if line.opcode == "while":
            if (times := trips(line, program)) is None:
                raise ValueError(f"no trip count of the loop {line.name!r}")
            for _ in range(times):
                yield from _in_order(program, attribute(line, "body"))
        elif line.opcode in ("conditional", "call"):
            for name in line.called:
                yield from _in_order(program, name)


def _event(
    line: Instruction, program: Program, later: Container[str], everyone: int
) -> tuple[str, str, Collective | None]:
    """`"start"`, `"done"`, `"both"` or `""`, the name of a transfer, and what it moves.

    `later` are the collectives that only go on.
    """
    if line.opcode.endswith("-done"):
        return "done", _started(line, program), None
    if line.opcode not in ("while", "conditional", "call"):
        for part in program.inside(line):
            fused = line.opcode == "fusion"
            if moved := collective(Executed(part, 1, False, fused), program, everyone):
                role = _role(line, program)
                if role == "both" and part.name in later:
                    return "", "", None
                is_split = fused and role != "both"
                return role, channel(part) if is_split else line.name, moved
    return "", "", None


def _role(line: Instruction, program: Program) -> str:
    """What an instruction does with the collective in it."""
    if line.opcode != "fusion":
        return "start" if line.opcode.endswith("-start") else "both"
    text = "".join(part.text for part in program.inside(line))
    return "start" if ASYNC_START in text else "done" if ASYNC_DONE in text else "both"


def _started(line: Instruction, program: Program) -> str:
    """The name of the instruction that starts what this one finishes."""
    name = line.operands[0]
    while program.by_name[name].opcode.endswith("-update"):
        name = program.by_name[name].operands[0]
    return name


@dataclass
class _Sent:
    """A transfer while the program runs."""

    moved: Collective
    is_async: bool
    begin: float
    end: float
    products: int = 0
    between: float = 0.0
    is_open: bool = True


@dataclass
class _Timeline:
    """What has been sent and computed so far."""

    seconds: Callable[[Collective], float]
    now: float = 0.0
    computing: float = 0.0
    sent: list[_Sent] = field(default_factory=list)
    named: dict[str, list[_Sent]] = field(default_factory=dict)  # by the first to finish
    waits: list[tuple[float, float]] = field(default_factory=list)

    def start(self, name: str, moved: Collective, is_async: bool) -> None:
        """Send, once the wire is free."""
        begin = max(self.now, self.sent[-1].end if self.sent else 0.0)
        self.sent.append(_Sent(moved, is_async, begin, begin + self.seconds(moved)))
        self.named.setdefault(name, []).append(self.sent[-1])

    def finish(self, name: str) -> None:
        """Wait until it is there; copies between memories have other names, and no wire."""
        if waiting := self.named.get(name):
            sent = waiting.pop(0)
            sent.is_open = False
            if sent.end > self.now:
                self.waits.append((self.now, sent.end))
                self.now = sent.end

    def compute(self, seconds: float, is_product: bool) -> None:
        """Run a kernel."""
        self.now += seconds
        self.computing += seconds
        for sent in self.sent:
            if sent.is_open:
                sent.products += is_product
                sent.between += seconds

    def schedule(self) -> Schedule:
        """All of it."""
        transfers = tuple(
            Transfer(
                sent.moved,
                sent.is_async,
                sent.end - sent.begin,
                sum(max(0.0, min(sent.end, b) - max(sent.begin, a)) for a, b in self.waits),
                sent.products,
                sent.between,
            )
            for sent in self.sent
        )
        return Schedule(transfers, self.computing, self.now - self.computing)
