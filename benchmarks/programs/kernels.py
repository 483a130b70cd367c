"""The kernels of a compiled program: what each multiplies, moves and takes by an estimate.

A kernel is a product if it contains one. Otherwise it is a pass in if it reads a gradient or
writes an array of the new state, a pass out if it writes a new parameter, and glue if neither
holds or if it does nothing but move data.
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass

from benchmarks.hlo import RECEIVED
from benchmarks.instructions import Executed, Instruction, Program
from benchmarks.products import Product, product
from benchmarks.programs.flow import Arguments, Flow
from benchmarks.programs.targets import LAUNCH, Target
from benchmarks.programs.traffic import entries, traffic

KINDS = ("products", "pass in", "pass out", "glue")
COPIES = ("copy", "transpose", "pad")
_FREE = {"parameter", "constant", "get-tuple-element", "tuple", "bitcast", "after-all"}
_FREE |= {"opt-barrier", "optimization-barrier", "while", "conditional", "call", "iota"}
_ONLY_MOVES = {*COPIES, "parameter", "constant", "bitcast", "reshape", "slice", "concatenate"}
_ONLY_MOVES |= {"tuple", "fusion", "dynamic-slice", "dynamic-update-slice", "broadcast"}
_CYCLES = re.compile(r'"estimated_cycles":"(\d+)"')


@dataclass(frozen=True)
class Kernel:
    """What a device runs as one.

    Attributes:
      line: The instruction.
      kind: One of `KINDS`.
      times: How often it runs; None if a trip count is not known.
      bytes: That one run moves.
      products: In it.
      estimate: Of one run, in cycles on a TPU and in seconds on a GPU; None without one.
    """

    line: Instruction
    kind: str
    times: int | None
    bytes: int
    products: tuple[Product, ...]
    estimate: float | None

    @property
    def flops(self) -> int:
        """Of one run."""
        return sum(found.flops for found in self.products)


def kernels(program: Program, target: Target, arguments: Arguments | None) -> list[Kernel]:
    """All that run, in their order, collectives apart.

    Without `arguments` none is a pass in or out.
    """
    flow = Flow(program, arguments) if arguments else None
    found = []
    for at in program.executed():
        line = at.instruction
        if at.fused or line.opcode in _FREE or line.opcode.endswith("-done"):
            continue
        if line.opcode.removesuffix("-start") in RECEIVED:
            continue
        found.append(_kernel(at, program, target, flow))
    return found


def is_counted(kernel: Kernel, target: Target) -> bool:
    """Whether it is a kernel of its own: on a TPU what has cycles, elsewhere all of them."""
    return target.kind != "tpu" or kernel.estimate is not None


def _kernel(at: Executed, program: Program, target: Target, flow: Flow | None) -> Kernel:
    line = at.instruction
    inside = [*program.inside(line)]
    products = tuple(found for part in inside if (found := product(part, program)))
    moved = traffic(line, program)
    kind = "products" if products else _kind(line, inside, flow)
    estimate = _estimate(line, products, moved, target)
    return Kernel(line, kind, at.times, moved, products, estimate)


def _kind(line: Instruction, inside: Sequence[Instruction], flow: Flow | None) -> str:
    if flow is None or {part.opcode for part in inside} <= _ONLY_MOVES:
        return "glue"
    if flow.reads_gradient(line) or flow.writes(line, "state"):
        return "pass in"
    return "pass out" if flow.writes(line, "params") else "glue"


def _estimate(
    line: Instruction, products: Sequence[Product], moved: int, target: Target
) -> float | None:
    """XLA's own on a TPU; on a GPU the larger of operations and bytes, and a launch."""
    if target.kind == "tpu":
        found = _CYCLES.search(line.text)
        return int(found[1]) if found else None
    if target.kind == "cpu" or (line.opcode == "custom-call" and "solver" in line.text):
        return None
    busy = sum(found.flops / target.peak[rate_of(found)] for found in products)
    return max(busy, moved / target.bandwidth) + LAUNCH


def rate_of(found: Product) -> str:
    """The key of a target's `peak`."""
    slow = "f32" in found.operands
    return "f32" + ", highest precision" * (found.precision == "highest") if slow else "bf16"


def copies(found: Sequence[Kernel], program: Program, smallest: int) -> dict[str, int]:
    """Copies, transposes and pads of at least so many entries, in passes over memory.

    A copy that only moves an array between a TPU's memories is an asynchronous one, or a slice,
    and is none of these. Nor is what a product does while it reads its operands.
    """
    counts = dict.fromkeys(COPIES, 0)
    for kernel in found:
        for part in () if kernel.products else program.inside(kernel.line):
            if part.opcode in counts and entries(part.result) >= smallest:
                counts[part.opcode] += kernel.times or 1
    return counts
