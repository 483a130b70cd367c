"""The choice of code by platform, made when a program is lowered and not while it is traced.

So if a CPU host compiles a program for a TPU, the program has the code for the TPU.
"""

from collections.abc import Callable
from functools import partial
from typing import Any, Literal

from jax import lax

Platform = Literal["cpu", "gpu", "tpu"]


def by_platform(function: Callable[..., Any], *arrays: Any) -> Any:
    """Trace `function(platform, *arrays)` for every platform, and compile it for one.

    The results for all platforms must have the same shapes and dtypes. An unknown platform
    counts as a GPU.
    """
    return lax.platform_dependent(
        *arrays,
        cpu=partial(function, "cpu"),
        tpu=partial(function, "tpu"),
        default=partial(function, "gpu"),
    )
