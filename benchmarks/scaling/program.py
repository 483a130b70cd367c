"""What a scheme that is a JAX program moves and computes, from its HLO."""

from benchmarks.hlo import collectives, flops
from benchmarks.scaling.models import Case
from benchmarks.scaling.schemes import METHOD
from benchmarks.sharding.formula import Step
from benchmarks.sharding.layouts import compiled, optimizers
from muon_optax._platform import Platform
from muon_optax.batching import _ownership

# A CPU would send bfloat16 as float32.
_AS_AN_ACCELERATOR = {"xla_disable_hlo_passes": "float-normalization-bf16"}


def stand_for(platform: Platform) -> None:
    """Let programs for a CPU divide and send what they would on an accelerator."""
    for numbers in (_ownership._SMALLEST_PART, _ownership._OPERATIONS_PER_BYTE):
        numbers["cpu"] = numbers[platform]


def by_hlo(case: Case, name: str) -> Step:
    """What XLA makes of an optimizer of `sharding.layouts`, all branches counted as taken."""
    tx = optimizers(case.layout, METHOD)[name]
    text = compiled(case.layout, tx, options=_AS_AN_ACCELERATOR).as_text()
    return Step(collectives(text), flops(text), flops(text))
