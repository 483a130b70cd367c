"""The kernels of a compiled program, each with its products, bytes and estimated time."""

import re
from collections.abc import Sequence
from dataclasses import dataclass

from muon_optax.estimates._instructions import Executed, Instruction, Program
from muon_optax.estimates._products import Product, product
from muon_optax.estimates._targets import LAUNCH, Target
from muon_optax.estimates._traffic import traffic

_COLLECTIVES = {"all-gather", "all-to-all", "all-reduce", "reduce-scatter"}
_COLLECTIVES |= {"collective-permute", "collective-broadcast"}
_FREE = {"parameter", "constant", "get-tuple-element", "tuple", "bitcast", "after-all"}
_FREE |= {"opt-barrier", "optimization-barrier", "while", "conditional", "call", "iota"}
_CYCLES = re.compile(r'"estimated_cycles":"(\d+)"')


@dataclass(frozen=True)
class Kernel:
    """An instruction that a device runs as one kernel.

    Attributes:
      line: The instruction.
      times: How often it runs; None if a trip count is unknown.
      bytes: The bytes that one run moves.
      products: The matrix products in it.
      estimate: The time of one run, in a TPU's cycles or in seconds; None if unknown.
    """

    line: Instruction
    times: int | None
    bytes: int
    products: tuple[Product, ...]
    estimate: float | None

    @property
    def flops(self) -> int:
        """The operations of one run."""
        return sum(found.flops for found in self.products)


def kernels(program: Program, target: Target) -> list[Kernel]:
    """Return all kernels in order, without collectives."""
    found = []
    for at in program.executed():
        line = at.instruction
        if at.fused or line.opcode in _FREE or line.opcode.endswith("-done"):
            continue
        if line.opcode.removesuffix("-start") not in _COLLECTIVES:
            found.append(_kernel(at, program, target))
    return found


def is_counted(kernel: Kernel, target: Target) -> bool:
    """Return whether a kernel counts. On a TPU, only those with estimated cycles do."""
    return target.kind != "tpu" or kernel.estimate is not None


def rate_of(found: Product) -> str:
    """Return the key of `Target.peak` for a product."""
    slow = "f32" in found.operands
    return "f32" + ", highest precision" * (found.precision == "highest") if slow else "bf16"


def _kernel(at: Executed, program: Program, target: Target) -> Kernel:
    line = at.instruction
    inside = program.inside(line)
    products = tuple(found for part in inside if (found := product(part, program)))
    moved = traffic(line, program)
    return Kernel(line, at.times, moved, products, _estimate(line, products, moved, target))


def _estimate(
    line: Instruction, products: Sequence[Product], moved: int, target: Target
) -> float | None:
    """Estimate one run of a kernel.

    On a TPU, this is XLA's own estimate. On a GPU, it is the time of the products or that of
    the memory traffic, whichever is longer, plus the time of a launch.
    """
    if target.kind == "tpu":
        found = _CYCLES.search(line.text)
        return int(found[1]) if found else None
    if target.bandwidth is None or (line.opcode == "custom-call" and "solver" in line.text):
        return None
    busy = sum(found.flops / target.peak[rate_of(found)] for found in products)
    return max(busy, moved / target.bandwidth) + LAUNCH
