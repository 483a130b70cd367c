"""The bytes that a kernel reads from and writes to the memory of its device."""

import math
import re
from collections.abc import Sequence

from muon_optax.estimates._instructions import (
    Instruction,
    Program,
    arrays,
    parts,
    size_in_bytes,
)

_SLICES = ("slice", "dynamic-slice", "gather")
_UPDATE = "dynamic-update-slice"
_RENAMES = ("bitcast", "reshape")


def traffic(kernel: Instruction, program: Program) -> int:
    """Return the bytes of a kernel's operands and results.

    An operand that is passed twice counts twice. If only slices of an operand are read, only
    the slices count. If a result is updated in place, only the new part counts. Arrays that a
    TPU's compiler keeps in the core's own memory do not count, but moving them there does. The
    compiler marks them with `S(1)` or another number.
    """
    if kernel.opcode.endswith("-start"):
        return size_in_bytes(parts(kernel.result)[1])
    if kernel.opcode.endswith("-done"):
        return 0
    inside = program.computations.get(kernel.called[0]) if kernel.opcode == "fusion" else None
    if inside is None:
        moved = [_outside(program.by_name[name].result) for name in kernel.operands]
        return sum(moved) + _outside(kernel.result)
    total = _written(kernel, inside, program)
    for line in inside:
        if found := re.search(r" parameter\((\d+)\)", line.text):
            whole = _outside(program.by_name[kernel.operands[int(found[1])]].result)
            total += min(whole, _read(line, inside, whole))
    return total


def _read(parameter: Instruction, inside: Sequence[Instruction], whole: int) -> int:
    """Return the bytes that the instructions of a fusion read from a parameter."""
    total, names = 0, {parameter.name}
    for line in inside:
        if not names & {*line.operands}:
            continue
        if line.opcode in _RENAMES:
            names.add(line.name)
        elif line.opcode in _SLICES:
            total += size_in_bytes(line.result)
        elif line.opcode != _UPDATE or line.operands[0] not in names:
            return whole
    return total


def _written(kernel: Instruction, inside: Sequence[Instruction], program: Program) -> int:
    """Return the bytes of the result or, if it is updated in place, of the new part."""
    root = next(line for line in inside if line.is_root)
    while root.opcode in _RENAMES:
        root = program.by_name[root.operands[0]]
    if root.opcode == _UPDATE:
        return size_in_bytes(program.by_name[root.operands[1]].result)
    return _outside(kernel.result)


def _outside(result: str) -> int:
    """Return the bytes of those arrays in a type that are in the device's memory."""
    return sum(
        size_in_bytes(f"{dtype}[{','.join(map(str, sides))}]")
        for dtype, sides, layout in arrays(result)
        if not re.search(r"S\([1-9]", layout)
    )


def entries(result: str) -> int:
    """Return the number of entries of the largest array in a type."""
    return max((math.prod(sides) for _, sides, _ in arrays(result)), default=0)
