"""The leaves of a model that its optimizer gets."""

import sys
from typing import Any


def only_parameters(params: Any) -> Any:
    """The parameters of a model of `flax.nnx`, as `nnx.Optimizer` trains them."""
    nnx = sys.modules.get("flax.nnx")  # who passes such a model has imported it
    if nnx is not None and isinstance(params, nnx.Module):
        return nnx.state(params, nnx.Param)
    return params
