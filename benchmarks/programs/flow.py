"""The arguments of a program that its kernels read, and the results that they write."""

import re
from dataclasses import dataclass

from muon_optax.estimates._instructions import Instruction, Program

# What hands an array on, by another name or from another place.
_MOVES = {"bitcast", "copy", "reshape", "get-tuple-element", "tuple", "opt-barrier"}
_MOVES |= {f"{what}-{end}" for what in ("copy", "slice") for end in ("start", "done")}
_MOVES |= {"optimization-barrier"}


@dataclass(frozen=True)
class Arguments:
    """How many arrays each argument of `step(params, state, grads)` has."""

    params: int
    state: int
    grads: int


class Flow:
    """Which kernels read a gradient, and which write a new parameter or the new state."""

    def __init__(self, program: Program, arguments: Arguments):
        self._program, self._arguments = program, arguments
        entry = program.computations[program.entry]
        (root,) = (line for line in entry if line.is_root)
        results = root.operands if root.opcode == "tuple" else (root.name,)
        self._writes: dict[str, set[str]] = {}
        for i, result in enumerate(results):
            what = "params" if i < arguments.params else "state"
            if re.search(r"\[\d", program.by_name[result].result):  # a counter is no pass
                for name in self._sources(result):
                    self._writes.setdefault(name, set()).add(what)

    def reads_gradient(self, kernel: Instruction) -> bool:
        """Whether an operand is an array of the gradients, or a part of one."""
        first = self._arguments.params + self._arguments.state
        sources = (source for name in kernel.operands for source in self._sources(name))
        return any(self._number(source) >= first for source in sources)

    def writes(self, kernel: Instruction, what: str) -> bool:
        """Whether a result is one of the `"params"` or of the `"state"`."""
        return what in self._writes.get(kernel.name, ())

    def _number(self, name: str) -> int:
        """Of the program's argument, or -1."""
        line = self._program.by_name[name]
        found = line.opcode == "parameter" and re.search(r" parameter\((\d+)\)", line.text)
        in_entry = found and line in self._program.computations[self._program.entry]
        return int(found[1]) if found and in_entry else -1

    def _sources(self, name: str, index: int | None = None) -> set[str]:
        """What made an array: a name that is not of a move. `index` is that in a tuple."""
        line = self._program.by_name.get(name)
        if line is None:
            return set()
        bitcasts = line.opcode == "custom-call" and 'Bitcast"' in line.text
        if line.opcode not in _MOVES and not bitcasts:
            return {name}
        if line.opcode == "get-tuple-element":
            index = int(re.search(r"index=(\d+)", line.text)[1])
            return self._sources(line.operands[0], index)
        if line.opcode == "tuple" and index is not None:
            return self._sources(line.operands[index])
        inner = index if "barrier" in line.opcode else None
        return set().union(*(self._sources(operand, inner) for operand in line.operands))
