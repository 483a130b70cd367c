"""The least that an update could take: its products at the peak, and the fewest passes."""

import math

from benchmarks.programs.models import Model
from muon_optax import NewtonSchulz
from muon_optax._platform import Platform
from muon_optax.estimates._targets import Target

# Bytes a parameter outside of products. The pass in reads the gradient and the momentum, and
# writes the momentum and the matrix in bfloat16: 4 + 4 + 4 + 2. A TPU's last product writes the
# new parameter; for a GPU reading and writing the parameter are counted: 8 more.
BYTES = {"tpu": 14, "gpu": 22}


def flops(model: Model, platform: Platform = "tpu") -> int:
    """Of the default method's plans; by default each in its cheaper form."""
    method = NewtonSchulz()
    return sum(method.plan(m, n, "float32", platform).flops for m, n in model.sides)


def floor(model: Model, target: Target) -> dict[str, float] | None:
    """Products, and passes: cycles on a TPU, seconds on a GPU; None if a rate is not known."""
    if not target.bandwidth or (target.kind == "tpu" and not target.clock):
        return None
    unit = target.clock if target.kind == "tpu" else 1.0
    matrices = sum(math.prod(side) for side in model.sides)
    products = flops(model) / target.peak["bf16"] * unit
    passes = BYTES[target.kind] * matrices / target.bandwidth * unit
    return {"products": products, "passes": passes}
