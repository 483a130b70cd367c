"""The one place that decides by platform, when a program is lowered and not while it is traced.

A program compiled for a TPU on a CPU host is then the TPU's program.
"""

from collections.abc import Callable
from functools import partial
from typing import Any, Literal

from jax import lax

Platform = Literal["cpu", "gpu", "tpu"]


def by_platform(function: Callable[..., Any], *arrays: Any) -> Any:
    """`function(platform, *arrays)`, traced for every platform and compiled for one.

    All results must have the same shapes and dtypes. A platform that JAX does not have yet is
    taken for a GPU.
    """
    return lax.platform_dependent(
        *arrays,
        cpu=partial(function, "cpu"),
        tpu=partial(function, "tpu"),
        default=partial(function, "gpu"),
    )
