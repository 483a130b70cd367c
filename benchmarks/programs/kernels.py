"""The kinds of the kernels of an update, and its copies.

A kernel is a product if it contains one. Otherwise it is a pass in if it reads a gradient or
writes an array of the new state, a pass out if it writes a new parameter, and glue if neither
holds or if it does nothing but move data.
"""

from collections.abc import Sequence

from benchmarks.programs.flow import Arguments, Flow
from muon_optax.estimates._instructions import Program
from muon_optax.estimates._kernels import Kernel
from muon_optax.estimates._traffic import entries

KINDS = ("products", "pass in", "pass out", "glue")
COPIES = ("copy", "transpose", "pad")
_ONLY_MOVES = {*COPIES, "parameter", "constant", "bitcast", "reshape", "slice", "concatenate"}
_ONLY_MOVES |= {"tuple", "fusion", "dynamic-slice", "dynamic-update-slice", "broadcast"}


def by_kind(
    found: Sequence[Kernel], program: Program, arguments: Arguments | None
) -> dict[str, list[Kernel]]:
    """The kernels of every kind; without `arguments` none is a pass in or out."""
    flow = Flow(program, arguments) if arguments else None
    sorted_kernels: dict[str, list[Kernel]] = {kind: [] for kind in KINDS}
    for kernel in found:
        sorted_kernels[_kind(kernel, program, flow)].append(kernel)
    return sorted_kernels


def _kind(kernel: Kernel, program: Program, flow: Flow | None) -> str:
    if kernel.products:
        return "products"
    inside = {part.opcode for part in program.inside(kernel.line)}
    if flow is None or inside <= _ONLY_MOVES:
        return "glue"
    if flow.reads_gradient(kernel.line) or flow.writes(kernel.line, "state"):
        return "pass in"
    return "pass out" if flow.writes(kernel.line, "params") else "glue"


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
