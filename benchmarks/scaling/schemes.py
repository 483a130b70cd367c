"""What other schemes to share a polar step move, and what each device computes.

Each is as its source has it, which docs/scaling_numbers.md links. Their products are those of
the direct form.
"""

import heapq
import math
from collections import Counter
from collections.abc import Callable

from benchmarks.hlo import Collective
from benchmarks.scaling.models import Case
from benchmarks.sharding import formula
from benchmarks.sharding.formula import Step
from benchmarks.sharding.layouts import OURS
from muon_optax import NewtonSchulz
from muon_optax._platform import Platform
from muon_optax.batching._grid import grid_of

METHOD = NewtonSchulz(compute_dtype="bfloat16")
_DIRECT = NewtonSchulz(compute_dtype="bfloat16", form="direct")
_BFLOAT16, _FLOAT32 = 2, 4


def ours(case: Case, platform: Platform = "cpu") -> Step:
    """By the library's own assignment."""
    return formula.ours(case.layout, METHOD, platform)


def dion(case: Case) -> Step:
    """Equal matrices are padded with zeros to the devices' number, and these iterated, too.

    One all-to-all in and one out along the axis that cuts, an all-gather where none does; the
    replicas of a product mesh do the same work.
    """
    axis = "fsdp" if "fsdp" in case.mesh else "data"
    devices, moves, sent, flops = case.mesh[axis], [], 0, 0.0
    for (m, n), count in Counter(case.sides).items():
        each = math.ceil(count / devices)
        sent += devices * each * m * n
        if axis == "fsdp":
            moves += 2 * [_move(case, "all-to-all", each * m * n * _BFLOAT16, axis)]
        else:
            moves += [_move(case, "all-gather", devices * each * m * n * _BFLOAT16, axis)]
        flops += each * _flops((m, n))
    return Step(moves, flops, flops, _fillers(case, sent))


def gather(case: Case) -> Step:
    """Every device gathers all matrices and does all the work."""
    moved = sum(m * n for m, n in case.sides) * _BFLOAT16
    flops = sum(map(_flops, case.sides))
    return Step([_move(case, "all-gather", moved, "fsdp")], flops, flops)


def owners(case: Case) -> Step:
    """dmuon: a matrix has an owner, where its gradient is summed and its parameters are kept.

    The largest matrix goes to whoever has least. In the step nothing moves: backward's sums
    go to the owner and forward's parameters come from it, as many bytes as FSDP's own.
    """
    loads = [0.0] * math.prod(case.mesh.values())
    for work in sorted(map(_flops, case.sides), reverse=True):
        heapq.heappush(loads, heapq.heappop(loads) + work)
    return Step([], max(loads), max(loads))


def rounds(case: Case) -> Step:
    """Keller Jordan's: matrices by size, in turn to devices; new parameters are gathered."""
    devices, moves, sent, flops = case.mesh["data"], [], 0, 0.0
    by_size = sorted(case.sides, key=math.prod, reverse=True)
    for start in range(0, len(by_size), devices):
        turn = by_size[start : start + devices]
        largest = devices * max(map(math.prod, turn))
        moves.append(_move(case, "all-gather", largest * _FLOAT32, "data"))
        sent += largest
        flops += max(map(_flops, turn))
    return Step(moves, flops, flops, _fillers(case, sent))


def schemes(case: Case) -> dict[str, Callable[[Case], Step]]:
    """Those that are made for such a mesh, by name."""
    if "fsdp" not in case.mesh:
        return {OURS: ours, "Dion's": dion, "Keller Jordan's": rounds}
    product = {"gather all": gather} if "data" not in case.mesh else {}
    return {OURS: ours, "Dion's": dion, "dmuon's": owners} | product


def _fillers(case: Case, sent: int) -> float:
    """The share of entries sent that are of no matrix."""
    return 1 - sum(map(math.prod, case.sides)) / sent


def _flops(sides: tuple[int, int]) -> float:
    return _DIRECT.plan(*sides, "float32").flops


def _move(case: Case, kind: str, bytes: float, axis: str) -> Collective:
    grid = grid_of(case.mesh)
    return Collective(kind, bytes, tuple(grid.groups(grid.factors([axis]))[0]))
