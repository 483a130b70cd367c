"""A simulation, not a measurement: how several schemes share a large model's polar step.

Per model and mesh: what moves by formula and by HLO, the flops of the busiest device, and how
long these would take on machines that are formulas themselves.
"""

import math
from collections import Counter

from rich.progress import track

from benchmarks.record import provenance, save
from benchmarks.scaling.machines import MACHINES
from benchmarks.scaling.models import CASES, Case
from benchmarks.scaling.program import by_hlo
from benchmarks.scaling.schemes import schemes
from benchmarks.sharding import host_devices
from benchmarks.sharding.formula import Step
from benchmarks.sharding.layouts import OPTAX, OURS

COMPILED = 128  # devices in a group: XLA takes minutes for an all-to-all between a thousand


def simulate(case: Case) -> dict[str, dict]:
    """Scheme → what it moves and computes, and seconds on each machine."""
    steps = {name: made(case) for name, made in schemes(case).items()}
    steps[OPTAX] = by_hlo(case, OPTAX)
    compiled = {OPTAX: steps[OPTAX]}
    if max(case.mesh.values()) <= COMPILED:
        compiled[OURS] = by_hlo(case, OURS)
    found = {name: _costs(case, step) for name, step in steps.items()}
    for name, program in compiled.items():
        received = sum(move.received for move in program.moves)
        found[name]["by_hlo"] = {"received": received, "flops": program.flops}
    found[OURS]["flops_of_all_branches"] = steps[OURS].branches
    return found


def _costs(case: Case, step: Step) -> dict:
    return {
        "collectives": dict(Counter(move.kind for move in step.moves)),
        "received": sum(move.received for move in step.moves),
        "flops": step.flops,
        "seconds": {
            name: {
                "computing": step.flops / machine.flops,
                "moving": sum(machine.seconds(move, case.torus) for move in step.moves),
            }
            for name, machine in MACHINES.items()
        },
    }


def main(smoke: bool = False) -> None:
    """Simulate every case; keep the results as they come."""
    cases = CASES[:1] if smoke else CASES
    host_devices(max(math.prod(case.mesh.values()) for case in cases))
    made_by, kept = provenance(), {}
    for case in track(cases, "models and meshes"):
        kept[str(case)] = simulate(case)
        if not smoke:
            save("scaling", made_by, {"cases": kept})
