"""The choice by platform, made when a program is lowered and not while it is traced.

A program that a CPU host compiles for a TPU is then the TPU's program.
"""

from collections.abc import Callable
from functools import partial
from typing import Any, Literal

from jax import lax

Platform = Literal["cpu", "gpu", "tpu"]


def by_platform(function: Callable[..., Any], *arrays: Any) -> Any:
    """`function(platform, *arrays)`, traced for every platform and compiled for one.

    All results must have the same shapes and dtypes. An unknown platform counts as a GPU.
    """
    return lax.platform_dependent(
        *arrays,
        cpu=partial(function, "cpu"),
        tpu=partial(function, "tpu"),
        default=partial(function, "gpu"),
    )
