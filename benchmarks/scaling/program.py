"""What a scheme that is a JAX program moves and computes, from its HLO."""

from benchmarks.hlo import Collective, collectives, flops
from benchmarks.scaling.models import Case
from benchmarks.scaling.schemes import METHOD
from benchmarks.sharding.formula import Move, Step
from benchmarks.sharding.layouts import compiled, optimizers

# A CPU would send bfloat16 as float32.
_AS_AN_ACCELERATOR = {"xla_disable_hlo_passes": "float-normalization-bf16"}


def by_hlo(case: Case, name: str) -> Step:
    """What XLA makes of an optimizer of `sharding.layouts`, all branches counted as taken."""
    tx = optimizers(case.layout, METHOD)[name]
    text = compiled(case.layout, tx, options=_AS_AN_ACCELERATOR).as_text()
    moves = [_move(case, found) for found in collectives(text)]
    return Step(moves, flops(text), flops(text))


def _move(case: Case, found: Collective) -> Move:
    """The mesh axes are those with as many devices as the group."""
    axes = {size: (name,) for name, size in case.mesh.items()}
    axes[case.layout.devices] = tuple(case.mesh)
    return Move(found.kind, found.times * found.bytes, axes[found.group], found.group)
