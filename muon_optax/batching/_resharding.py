"""The resharding of arrays on a mesh: constrain, gather, scatter and place."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array, lax
from jax.sharding import AbstractMesh, AxisType, NamedSharding, PartitionSpec

from muon_optax.batching._shardings import is_traced, own_sharding


def constrain(x: Array, sharding: NamedSharding) -> Array:
    """Move `x` to a sharding on explicit axes; on automatic axes, constrain XLA to use it."""
    if AxisType.Explicit in sharding.mesh.axis_types:
        return jax.sharding.reshard(x, sharding)
    return lax.with_sharding_constraint(x, sharding)


def gather_explicit(x: Array) -> Array:
    """Replicate an array on explicit axes, so that JAX accepts any reshape of it.

    On automatic axes the array does not change, because XLA handles reshapes.
    """
    sharding = _explicit_sharding(x)
    return x if sharding is None else constrain(x, everywhere(sharding, x))


def scatter_like(x: Array, like: Array) -> Array:
    """Undo `gather_explicit`: give `x` the explicit sharding of `like`."""
    sharding = _explicit_sharding(like)
    return x if sharding is None else constrain(x, sharding)


def put(x: Array, sharding: NamedSharding) -> Array:
    """Move an array to the devices of a sharding, outside of `jax.jit`.

    All processes must call it. An array on one device must be equal in all processes.
    """
    if own_sharding(x) is not None:
        return constrain(x, sharding)
    copy = np.asarray(x)
    # jax.device_put would check in all processes that their arrays are equal.
    return jax.make_array_from_callback(x.shape, sharding, lambda index: copy[index])


def place_like(x: Any, leaf: Any) -> Array:
    """Give an array the dtype and the sharding of a leaf. Copy it only if they differ.

    The leaf is an array or a `jax.ShapeDtypeStruct`, with or without a sharding.
    """
    x = jnp.asarray(x, leaf.dtype)
    sharding = getattr(leaf, "sharding", None)
    if is_traced(x) or is_traced(leaf) or sharding is None:
        return x
    if isinstance(
        getattr(sharding, "mesh", None), AbstractMesh
    ):  # an abstract mesh has no devices
        return x
    if getattr(leaf, "committed", True):
        return jax.device_put(x, sharding)
    # An uncommitted count can move to the parameters' devices in the next step.
    return jnp.array(np.asarray(x)) if x.committed else x


def everywhere(sharding: NamedSharding, x: Array) -> NamedSharding:
    """Return a replicated sharding.

    Its spec is the one that JAX returns. With another spec, JAX would compile again.
    """
    is_explicit = AxisType.Explicit in sharding.mesh.axis_types
    return NamedSharding(sharding.mesh, PartitionSpec(*[None] * x.ndim * is_explicit))


def sharding_of_moment(
    x: Array, shape: tuple[int, ...], sharding: NamedSharding
) -> NamedSharding:
    """Return the sharding of a parameter's moment.

    The moment is sharded like the parameter along every axis that both have. Axes are compared
    from the last one, as in broadcasting. On explicit axes, a moment of another shape is on
    every device, as `scale_by_neuron_rms` returns it.
    """
    if x.shape == shape:
        return sharding
    if AxisType.Explicit in sharding.mesh.axis_types:
        return everywhere(sharding, x)
    spec = (*sharding.spec, *[None] * (len(shape) - len(sharding.spec)))
    pairs = zip(x.shape[::-1], shape[::-1], spec[::-1])
    entries = [entry if size == whole else None for size, whole, entry in pairs]
    entries += [None] * (x.ndim - len(entries))
    while entries and entries[0] is None:  # as in the spec that JAX returns
        entries.pop(0)
    return NamedSharding(sharding.mesh, PartitionSpec(*entries[::-1]))


def _explicit_sharding(x: Array) -> NamedSharding | None:
    """Return the sharding of an array on explicit axes; None for any other array."""
    own = own_sharding(x)
    return own if own is not None and AxisType.Explicit in own.mesh.axis_types else None
