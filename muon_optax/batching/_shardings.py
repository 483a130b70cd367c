"""The shardings of a tree's leaves: read from the arrays, or from the argument `shardings`.

>>> mesh = jax.make_mesh((1,), ("fsdp",), axis_types=(AxisType.Explicit,))
>>> kernel = jax.device_put(jax.numpy.ones((2, 3)), NamedSharding(mesh, PartitionSpec("fsdp")))
>>> [tuple(sharding.spec) for sharding in infer_shardings(None, {"kernel": kernel})]
[('fsdp',)]
"""

import sys
import warnings
from typing import Any

import jax
from jax import Array
from jax.core import Tracer
from jax.sharding import (
    AbstractMesh,
    AxisType,
    Mesh,
    NamedSharding,
    PartitionSpec,
    SingleDeviceSharding,
)

from muon_optax._leaves import LeafError, leaves_by_path, path_prefixes

Shardings = Any  # None, a NamedSharding, a tree of them like the parameters, or a prefix of one

_LIBRARIES = ("muon_optax", "optax", "jax", "jaxlib", "flax")  # not the user's code


def infer_shardings(given: Shardings, tree: Any) -> tuple[NamedSharding, ...] | None:
    """The sharding of every leaf, in the order of `jax.tree.leaves(tree)`.

    Outside of `jax.jit` it is read from the arrays. Inside, it can be read only where all axes
    of the mesh are of `AxisType.Explicit`; `given` supplies it for the rest.

    None if no leaf is on several devices, or if that cannot be known. A mesh of one device
    counts if its axes are explicit, because array types then have its axes.
    """
    by_path = _given_by_path(given)
    leaves = leaves_by_path(tree)
    found = {
        name: own_sharding(leaf) or _find_given(by_path, name, leaf)
        for name, leaf in leaves.items()
    }
    meshes = [sharding.mesh for sharding in found.values() if sharding is not None]
    if not meshes or not _matters(meshes[0]):
        return None
    mesh = meshes[0]
    _check_axis_types(mesh)
    for name, sharding in found.items():
        if sharding is not None and sharding.mesh != mesh:
            problem = f"on the mesh {sharding.mesh}, but others are on {mesh}; use one mesh"
            raise LeafError(name, leaves[name], problem)
    # A leaf that is on no mesh goes to every device, as in `jax.jit`.
    everywhere = NamedSharding(mesh, PartitionSpec())
    return tuple(sharding or everywhere for sharding in found.values())


def check_shardings(given: Shardings, params: Any) -> None:
    """Refuse shardings that contradict those of the arrays; traced arrays pass."""
    by_path = _given_by_path(given)
    for name, leaf in leaves_by_path(params).items():
        own, said = own_sharding(leaf), _find_given(by_path, name, leaf)
        if is_traced(leaf) or own is None or said is None:
            continue
        if isinstance(said.mesh, AbstractMesh):  # has no devices to compare
            continue
        same_memory = NamedSharding(said.mesh, said.spec, memory_kind=own.memory_kind)
        if not own.is_equivalent_to(same_memory, leaf.ndim):
            raise LeafError(
                name,
                leaf,
                f"sharded as {own.spec} on {dict(own.mesh.shape)}, but shardings has "
                f"{said.spec} on {dict(said.mesh.shape)}; pass its own sharding",
            )


def warn_if_unreadable(tree: Any) -> None:
    """Warn if leaves are traced on a mesh of automatic axes, so their shardings are unknown."""
    for leaf in jax.tree.leaves(tree):
        if is_traced(leaf) and AxisType.Auto in _axis_types(leaf):
            mesh = dict(jax.typeof(leaf).sharding.mesh.shape)
            warnings.warn(
                f"muon_optax: every device of the mesh {mesh} may compute all polar factors, "
                "because jax.jit hides the shardings on automatic axes. Pass them: "
                "muon(..., shardings=jax.tree.map(lambda p: p.sharding, params)). Or make the "
                "mesh with AxisType.Explicit",
                stacklevel=_user_stacklevel(),
            )
            return


def is_traced(leaf: Any) -> bool:
    """Whether only the type of a leaf is known."""
    return isinstance(leaf, Tracer)


def own_sharding(leaf: Array) -> NamedSharding | None:
    """The sharding of an array, if it can be read and its mesh matters."""
    if is_traced(leaf):
        if _axis_types(leaf) - {AxisType.Explicit}:
            return None
        sharding = jax.typeof(leaf).sharding
    else:
        sharding = getattr(leaf, "sharding", None)
    if isinstance(sharding, NamedSharding) and _matters(sharding.mesh):
        return sharding
    return None


def _matters(mesh: Mesh | AbstractMesh) -> bool:
    """Whether a mesh has several devices, or its axes are in array types."""
    return mesh.size > 1 or AxisType.Explicit in mesh.axis_types


def _axis_types(leaf: Array) -> set[AxisType]:
    """The types of the axes, of several devices each, of a traced array's mesh."""
    mesh = jax.typeof(leaf).sharding.mesh
    return {kind for kind, size in zip(mesh.axis_types, mesh.axis_sizes) if size > 1}


def _given_by_path(given: Shardings) -> dict[str, NamedSharding]:
    """The argument's shardings by path; empty if it has none, or the process has one device."""
    by_path = leaves_by_path(given)
    single = [name for name, x in by_path.items() if isinstance(x, SingleDeviceSharding)]
    if single:
        (device,) = by_path[single[0]].device_set
        if len(single) == len(by_path) and jax.device_count(device.platform) == 1:
            return {}
        where = f" at {single[0]!r}" if single[0] else ""
        place = "params = jax.device_put(params, NamedSharding(mesh, PartitionSpec()))"
        raise ValueError(
            f"shardings has a SingleDeviceSharding{where}, so its leaf is on one device. Write "
            f"{place} before, or drop `shardings` to use one device only"
        )
    for name, x in by_path.items():
        if not isinstance(x, NamedSharding):
            where = f" at {name!r}" if name else ""
            raise ValueError(
                f"shardings has {x!r}{where}; use one NamedSharding for all leaves, or "
                "jax.tree.map(lambda p: p.sharding, params)"
            )
    return by_path


def _find_given(
    by_path: dict[str, NamedSharding], name: str, leaf: Array
) -> NamedSharding | None:
    """The argument's sharding for a leaf, at its path or a prefix of it."""
    if not by_path:
        return None
    if is_traced(leaf) and AxisType.Manual in _axis_types(leaf):
        problem = "a block, because this is inside jax.shard_map; call the optimizer outside, "
        problem += "or drop `shardings` if every device has whole matrices"
        raise LeafError(name, leaf, problem)
    prefixes = [prefix for prefix in path_prefixes(name) if prefix in by_path]
    if not prefixes:
        example = next(iter(by_path))
        problem = f"shardings has none for it, but {len(by_path)} others, such as {example!r}"
        raise LeafError(name, leaf, f"{problem}; add its own sharding")
    sharding = by_path[prefixes[0]]
    try:
        sharding.shard_shape(leaf.shape)
    except (ValueError, IndexError):
        raise LeafError(
            name,
            leaf,
            f"shardings has {sharding.spec} on {dict(sharding.mesh.shape)}, which does not fit "
            "its axes; name at most as many axes as it has, and divide each evenly",
        ) from None
    return sharding


def _check_axis_types(mesh: Mesh | AbstractMesh) -> None:
    if len({*mesh.axis_types}) > 1:
        kinds = dict(zip(mesh.axis_names, mesh.axis_types))
        raise ValueError(
            f"the mesh has axes of several types, {kinds}; use AxisType.Auto for all or "
            "AxisType.Explicit for all"
        )


def _user_stacklevel() -> int:
    """The `stacklevel` with which the caller of this function warns at the user's line."""
    frame, level = sys._getframe(1), 1
    while frame.f_back and frame.f_globals.get("__name__", "").split(".")[0] in _LIBRARIES:
        frame, level = frame.f_back, level + 1
    return level
