"""The shardings of a tree's leaves: read from the arrays, or from the argument `shardings`.

>>> mesh = jax.make_mesh((1,), ("fsdp",), axis_types=(AxisType.Explicit,))
>>> kernel = jax.device_put(jax.numpy.ones((2, 3)), NamedSharding(mesh, PartitionSpec("fsdp")))
>>> [tuple(sharding.spec) for sharding in infer_shardings(None, {"kernel": kernel})]
[('fsdp',)]
"""

from typing import Any

import jax
from jax import Array
from jax.sharding import AbstractMesh, AxisType, Mesh, NamedSharding, PartitionSpec

from muon_optax._leaves import LeafError, leaves_by_path
from muon_optax._warning import warn_user
from muon_optax.batching._given import (
    Shardings,
    axis_types,
    given_shardings,
    is_traced,
)


def infer_shardings(given: Shardings, tree: Any) -> tuple[NamedSharding, ...] | None:
    """Return the sharding of every leaf, in the order of `jax.tree.leaves(tree)`.

    Outside of `jax.jit` the shardings are read from the arrays. Inside, they can be read only
    if all axes of the mesh are `AxisType.Explicit`; otherwise `given` is used.

    Returns None if no leaf is on several devices, or if this is unknown. A mesh of one device
    counts as several if its axes are explicit, because explicit axes are part of array types.
    """
    said, leaves = given_shardings(given, tree), leaves_by_path(tree)
    found = {name: own_sharding(leaf) or said.get(name) for name, leaf in leaves.items()}
    meshes = [sharding.mesh for sharding in found.values() if sharding is not None]
    if not meshes or not _matters(meshes[0]):
        return None
    mesh = meshes[0]
    _check_axis_types(mesh)
    for name, sharding in found.items():
        if sharding is not None and sharding.mesh != mesh:
            problem = f"it is on {sharding.mesh}, but other leaves are on {mesh}; use one mesh"
            if sharding.mesh.shape == mesh.shape:
                problem += ", with its devices in the same order"
            raise LeafError(name, leaves[name], problem)
    # A leaf without a mesh goes to every device, as in `jax.jit`.
    everywhere = NamedSharding(mesh, PartitionSpec())
    return tuple(sharding or everywhere for sharding in found.values())


def check_shardings(given: Shardings, params: Any) -> None:
    """Refuse shardings that contradict those of the arrays. Traced arrays pass."""
    said = given_shardings(given, params)
    for name, leaf in leaves_by_path(params).items():
        own = own_sharding(leaf)
        if is_traced(leaf) or own is None or name not in said:
            continue
        mesh = own.mesh if isinstance(said[name].mesh, AbstractMesh) else said[name].mesh
        same_memory = NamedSharding(mesh, said[name].spec, memory_kind=own.memory_kind)
        if not own.is_equivalent_to(same_memory, leaf.ndim):
            raise LeafError(name, leaf, _difference(own, said[name].spec, leaf.ndim))


def _difference(own: NamedSharding, spec: PartitionSpec, ndim: int) -> str:
    """Say how the sharding of an array differs from the given sharding with this spec."""
    if own.is_equivalent_to(NamedSharding(own.mesh, spec, memory_kind=own.memory_kind), ndim):
        return (
            "its mesh has other devices than the mesh of `shardings`, or has them in another "
            "order; use the arrays' mesh"
        )
    return (
        f"it is sharded as {own.spec}, but `shardings` has {spec}; pass jax.tree.map(lambda p: "
        "p.sharding, params), or place the parameters as in `shardings`"
    )


def warn_if_unreadable(tree: Any) -> None:
    """Warn if leaves are traced on a mesh with automatic axes, which hides their shardings."""
    for leaf in jax.tree.leaves(tree):
        if is_traced(leaf) and AxisType.Auto in axis_types(leaf):
            mesh = dict(jax.typeof(leaf).sharding.mesh.shape)
            warn_user(
                f"muon_optax: every device of the mesh {mesh} may compute all polar factors, "
                "because jax.jit hides shardings on automatic axes. Pass the shardings: "
                "muon(..., shardings=NamedSharding(mesh, PartitionSpec())) if every device has "
                "all parameters, else muon(..., shardings=jax.tree.map(lambda p: p.sharding, "
                "params)) or shardings=(mesh, specs). Or make the mesh with AxisType.Explicit"
            )
            return


def own_sharding(leaf: Array) -> NamedSharding | None:
    """Return an array's sharding; None if it cannot be read or its mesh does not matter."""
    if is_traced(leaf):
        if axis_types(leaf) - {AxisType.Explicit}:
            return None
        sharding = jax.typeof(leaf).sharding
    else:
        sharding = getattr(leaf, "sharding", None)
    if isinstance(sharding, NamedSharding) and _matters(sharding.mesh):
        return sharding
    return None


def _matters(mesh: Mesh | AbstractMesh) -> bool:
    """Return whether a mesh matters: whether it has several devices or explicit axes.

    Explicit axes matter even with one device, because they are part of array types.
    """
    return mesh.size > 1 or AxisType.Explicit in mesh.axis_types


def _check_axis_types(mesh: Mesh | AbstractMesh) -> None:
    if len({*mesh.axis_types}) > 1:
        kinds = dict(zip(mesh.axis_names, mesh.axis_types))
        raise ValueError(
            f"the mesh has axes of several types, {kinds}; use AxisType.Auto for all axes, or "
            "AxisType.Explicit for all"
        )
