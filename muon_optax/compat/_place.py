"""The dtype and the placement of a restored array: those of a leaf of the new state."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array
from jax.core import Tracer
from jax.sharding import AbstractMesh


def place_like(x: Any, leaf: Any) -> Array:
    """The array in the dtype and with the sharding of a leaf; a copy only where that differs.

    The leaf is an array or a `jax.ShapeDtypeStruct`, with a sharding or without.
    """
    x = jnp.asarray(x, leaf.dtype)
    sharding = getattr(leaf, "sharding", None)
    if isinstance(x, Tracer) or isinstance(leaf, Tracer) or sharding is None:
        return x
    if isinstance(getattr(sharding, "mesh", None), AbstractMesh):  # without devices
        return x
    if getattr(leaf, "committed", True):
        return jax.device_put(x, sharding)
    # A count that no device is chosen for goes wherever the parameters of the next step are.
    return jnp.array(np.asarray(x)) if x.committed else x
