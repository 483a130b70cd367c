"""How often the body of a compiled loop runs."""

# Unexpected HLO raises an error in any case.
# pyright: reportOptionalMemberAccess=false, reportOptionalOperand=false
# pyright: reportOptionalSubscript=false

from __future__ import annotations

import re
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from muon_optax.estimates._instructions import Instruction, Program

_KNOWN = re.compile(r'"known_trip_count":\{"n":"(\d+)"')


def trips(loop: Instruction, program: Program) -> int | None:
    """Return the trip count of a loop; None if it is unknown.

    XLA's compiler for TPUs states the trip counts of some loops only. For other loops, it is
    known if the loop counts by one up to a constant.
    """
    if found := _KNOWN.search(loop.text):
        return int(found[1])
    condition, body = (
        next((x for x in program.computations[attribute(loop, part)] if x.is_root), None)
        for part in ("condition", "body")
    )
    start = _original(loop.operands[0], program)
    if not condition or not re.search(r" compare\(.*direction=LT", condition.text):
        return None
    counter, end = (_original(name, program) for name in condition.operands)
    index = _index(counter)
    if index is None or {_opcode(start), _opcode(body)} != {"tuple"}:
        return None
    first, last = _constant(_original(start.operands[index], program)), _constant(end)
    step = _original(body.operands[index], program)
    added = [_original(name, program) for name in step.operands] if step else []
    counts = (
        _opcode(step) == "add" and index in map(_index, added) and 1 in map(_constant, added)
    )
    if not counts or first is None or last is None:
        return None
    return max(0, last - first)


def attribute(instruction: Instruction, name: str) -> str:
    """Return the computation that an instruction calls as its `condition` or `body`."""
    return re.search(rf"{name}=%?([\w.-]+)", instruction.text)[1]


def _original(name: str, program: Program) -> Instruction | None:
    """Return the instruction with this name or, if it is a copy, what it copies."""
    line = program.by_name.get(name)
    return _original(line.operands[0], program) if _opcode(line) == "copy" else line


def _opcode(line: Instruction | None) -> str:
    return line.opcode if line else ""


def _index(line: Instruction | None) -> int | None:
    """Return which element of the loop's tuple an instruction reads; None if it reads none."""
    found = _opcode(line) == "get-tuple-element" and re.search(r"index=(\d+)", line.text)
    return int(found[1]) if found else None


def _constant(line: Instruction | None) -> int | None:
    found = line and re.search(r" constant\((-?\d+)\)", line.text)
    return int(found[1]) if found else None
