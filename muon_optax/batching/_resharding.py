"""Arrays on the devices of a mesh: constrain a sharding, gather, scatter and place."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array, lax
from jax.sharding import AbstractMesh, AxisType, NamedSharding, PartitionSpec

from muon_optax.batching._shardings import is_traced, own_sharding


def constrain(x: Array, sharding: NamedSharding) -> Array:
    """`x` with a sharding: moved on explicit axes, a constraint for XLA on automatic ones."""
    if AxisType.Explicit in sharding.mesh.axis_types:
        return jax.sharding.reshard(x, sharding)
    return lax.with_sharding_constraint(x, sharding)


def gather_explicit(x: Array) -> Array:
    """An array of explicit axes, whole on every device: then JAX accepts any reshape.

    On automatic axes the array is unchanged, because XLA decides where a reshape moves it.
    """
    sharding = _explicit_sharding(x)
    return x if sharding is None else constrain(x, everywhere(sharding, x))


def scatter_like(x: Array, like: Array) -> Array:
    """The inverse of `gather_explicit`: `x` with the explicit sharding of `like`."""
    sharding = _explicit_sharding(like)
    return x if sharding is None else constrain(x, sharding)


def put(x: Array, sharding: NamedSharding) -> Array:
    """An array outside of `jax.jit`, on the devices of a sharding.

    All processes call it alike, and with equal arrays where these are on one device.
    """
    if own_sharding(x) is not None:
        return constrain(x, sharding)
    copy = np.asarray(x)
    # jax.device_put would ask all processes whether their arrays are equal.
    return jax.make_array_from_callback(x.shape, sharding, lambda index: copy[index])


def place_like(x: Any, leaf: Any) -> Array:
    """The array in the dtype and with the sharding of a leaf; a copy only where that differs.

    The leaf is an array or a `jax.ShapeDtypeStruct`, with a sharding or without.
    """
    x = jnp.asarray(x, leaf.dtype)
    sharding = getattr(leaf, "sharding", None)
    if is_traced(x) or is_traced(leaf) or sharding is None:
        return x
    if isinstance(getattr(sharding, "mesh", None), AbstractMesh):  # without devices
        return x
    if getattr(leaf, "committed", True):
        return jax.device_put(x, sharding)
    # A count that no device is chosen for goes wherever the parameters of the next step are.
    return jnp.array(np.asarray(x)) if x.committed else x


def everywhere(sharding: NamedSharding, x: Array) -> NamedSharding:
    """On every device, spelled as JAX returns it: another spelling compiles again."""
    is_explicit = AxisType.Explicit in sharding.mesh.axis_types
    return NamedSharding(sharding.mesh, PartitionSpec(*[None] * x.ndim * is_explicit))


def sharding_of_moment(
    x: Array, shape: tuple[int, ...], sharding: NamedSharding
) -> NamedSharding:
    """The sharding of a moment of a parameter: cut along every axis that both have.

    Axes are compared from the last one on, as in broadcasting. On explicit axes a moment of
    another shape is on every device, as `scale_by_neuron_rms` returns it there.
    """
    if x.shape == shape:
        return sharding
    if AxisType.Explicit in sharding.mesh.axis_types:
        return everywhere(sharding, x)
    spec = (*sharding.spec, *[None] * (len(shape) - len(sharding.spec)))
    pairs = zip(x.shape[::-1], shape[::-1], spec[::-1])
    entries = [entry if size == whole else None for size, whole, entry in pairs]
    entries += [None] * (x.ndim - len(entries))
    while entries and entries[0] is None:  # spelled as JAX returns it
        entries.pop(0)
    return NamedSharding(sharding.mesh, PartitionSpec(*entries[::-1]))


def _explicit_sharding(x: Array) -> NamedSharding | None:
    """The sharding of an array on explicit axes, else None."""
    own = own_sharding(x)
    return own if own is not None and AxisType.Explicit in own.mesh.axis_types else None
