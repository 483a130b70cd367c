"""The one place that decides by platform, when a program is lowered and not while it is traced.

A program compiled for a TPU on a CPU host is then the TPU's program.
"""

from collections.abc import Callable
from functools import partial
from typing import Any, Literal

from jax import lax

Platform = Literal["cpu", "accelerator"]


def by_platform(function: Callable[..., Any], *arrays: Any) -> Any:
    """`function(platform, *arrays)`, traced for both platforms and compiled for one.

    Both results must have the same shapes and dtypes.
    """
    return lax.platform_dependent(
        *arrays, cpu=partial(function, "cpu"), default=partial(function, "accelerator")
    )
