"""How several schemes share a large model's polar step: by formula, and by real compilers.

Without `--target` a simulation. Per model and mesh: what moves by formula and by HLO, the flops
of the busiest device, and how long these would take on machines that are formulas themselves.
With `--target v5p h100` the whole updates of `compiled.CASES`, compiled for TPUs or GPUs that
are not there. Nothing is measured.
"""

import math
from collections.abc import Sequence

from rich.progress import track

from benchmarks import programs
from benchmarks.hlo import count
from benchmarks.record import provenance, save
from benchmarks.scaling import compiled, tables
from benchmarks.scaling.machines import MACHINES
from benchmarks.scaling.models import CASES, Case
from benchmarks.scaling.program import by_hlo, stand_for
from benchmarks.scaling.schemes import schemes
from benchmarks.sharding import host_devices
from benchmarks.sharding.formula import Step
from benchmarks.sharding.layouts import OPTAX, OURS
from muon_optax.estimates._targets import TARGETS

COMPILED = 128  # devices in a group: XLA takes minutes for an all-to-all between a thousand


def simulate(case: Case) -> dict[str, dict]:
    """Scheme → what it moves and computes, and seconds on each machine."""
    steps = {name: made(case) for name, made in schemes(case).items()}
    steps[OPTAX] = by_hlo(case, OPTAX)
    read = {OPTAX: steps[OPTAX]}
    if max(case.mesh.values()) <= COMPILED:
        read[OURS] = by_hlo(case, OURS)
    found = {name: _costs(case, step) for name, step in steps.items()}
    for name, program in read.items():
        found[name]["by_hlo"] = {"received": program.received, "flops": program.flops}
    found[OURS]["flops_of_all_branches"] = steps[OURS].branches
    return found


def _costs(case: Case, step: Step) -> dict:
    return {
        "collectives": count(step.moves),
        "received": step.received,
        "fillers": step.fillers,
        "flops": step.flops,
        "seconds": {
            name: {
                "computing": step.flops / machine.flops,
                "moving": sum(machine.seconds(move, case.torus) for move in step.moves),
            }
            for name, machine in MACHINES.items()
        },
    }


def main(smoke: bool = False, targets: Sequence[str] = ()) -> None:
    """Simulate every case, or compile for every target; keep the results as they come."""
    if targets:
        return _compile(targets, smoke)
    cases = CASES[:1] if smoke else CASES
    stand_for("tpu")
    host_devices(max(math.prod(case.mesh.values()) for case in cases))
    made_by, kept = provenance(), {}
    for case in track(cases, "models and meshes"):
        kept[str(case)] = simulate(case)
        if not smoke:
            save("scaling", made_by, {"cases": kept})


def _compile(targets: Sequence[str], smoke: bool) -> None:
    programs.check_known("target", targets, compiled.KNOWN)
    # The formula takes as many devices of this CPU, on which nothing runs.
    host_devices(max(case.layout.devices for case in compiled.CASES))
    made_by, kept = provenance() | programs.versions(), {}
    for target in targets:
        for case in compiled.CASES[: 1 if smoke else None]:
            rows = kept.setdefault(target, {}).setdefault(str(case), {})
            for name in (OURS,) if smoke else (OURS, OPTAX):
                rows[name] = compiled.measured(case, name, TARGETS[target])
                print(tables.compiled({target: {str(case): {name: rows[name]}}}), flush=True)
            if not smoke:
                save("scaling_compiled", made_by, {"targets": kept}, programs.FOLDER)
