"""Knows where arrays lie on a mesh: read from them, or as an argument says."""

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

from muon_optax._leaves import LeafError, path_name, path_prefixes

Shardings = Any  # None, a NamedSharding, a tree of them like the parameters, or a prefix of one


def infer_shardings(given: Shardings, tree: Any) -> tuple[NamedSharding, ...] | None:
    """The sharding of every leaf, in the order of `jax.tree.leaves(tree)`.

    It is read from the arrays: outside of `jax.jit` from all, inside from those whose mesh has
    axes of `AxisType.Explicit`. Of others a trace does not know it.

    Args:
      given: For what cannot be read: a `NamedSharding` for all, or a tree of them or a prefix
        of one, found by path; or None. `SingleDeviceSharding`s throughout are as good as None.
      tree: Arrays, traced or not.

    Returns:
      None where no leaf is spread over devices, or where that cannot be known. On explicit axes
      a mesh of one device counts, too: array types have its axes.

    Raises:
      ValueError: If `given` is no tree of `NamedSharding`s, or some of a mesh's axes are
        automatic and some explicit.
      LeafError: If it has none for a leaf or one that does not fit; if a leaf is on another
        mesh than those before it, or a block under `jax.shard_map`.
    """
    by_path = _by_path(given)
    named = [(path_name(path), leaf) for path, leaf in jax.tree.leaves_with_path(tree)]
    found = [own_sharding(leaf) or _given(by_path, name, leaf) for name, leaf in named]
    mesh = next((s.mesh for s in found if s is not None), None)
    if mesh is None:
        _warn_of_what_cannot_be_read([leaf for _, leaf in named])
    if mesh is None or not _matters(mesh):
        return None
    _check_one_kind(mesh)
    for (name, leaf), sharding in zip(named, found):
        if sharding is not None and sharding.mesh != mesh:
            problem = f"it is on the mesh {sharding.mesh}, others are on {mesh}; use one"
            raise LeafError(name, leaf, problem)
    # What is on no mesh goes to every device, as it would in `jax.jit`.
    return tuple(s or NamedSharding(mesh, PartitionSpec()) for s in found)


def check_shardings(given: Shardings, params: Any) -> None:
    """Refuse shardings that say of arrays at hand what is not so.

    Args:
      given: See `infer_shardings`.
      params: Arrays; of traced ones nothing is known.

    Raises:
      ValueError: See `infer_shardings`.
      LeafError: If an array on several devices lies otherwise.
    """
    by_path = _by_path(given)
    for path, leaf in jax.tree.leaves_with_path(params):
        name = path_name(path)
        own, said = own_sharding(leaf), _given(by_path, name, leaf)
        if is_traced(leaf) or own is None or said is None:
            continue
        if isinstance(said.mesh, AbstractMesh):  # which has no devices to compare
            continue
        same_memory = NamedSharding(said.mesh, said.spec, memory_kind=own.memory_kind)
        if not own.is_equivalent_to(same_memory, leaf.ndim):
            problem = f"it lies as {own.spec} on {dict(own.mesh.shape)}, shardings says "
            problem += f"{said.spec} on {dict(said.mesh.shape)}; pass its own sharding"
            raise LeafError(name, leaf, problem)


def is_traced(leaf: Any) -> bool:
    """Whether a leaf is known by its type alone."""
    return isinstance(leaf, Tracer)


def own_sharding(leaf: Array) -> NamedSharding | None:
    """That of an array, as far as it can be read and matters."""
    if is_traced(leaf):
        sharding = jax.typeof(leaf).sharding
        known = not _types(leaf) - {AxisType.Explicit}
    else:
        sharding, known = getattr(leaf, "sharding", None), True
    named = isinstance(sharding, NamedSharding) and _matters(sharding.mesh)
    return sharding if named and known else None


def _matters(mesh: Any) -> bool:
    """Whether arrays on a mesh are spread, or have its axes in their types."""
    return mesh.size > 1 or AxisType.Explicit in mesh.axis_types


def _types(leaf: Array) -> set[AxisType]:
    """Of the axes of a traced array's mesh."""
    mesh = jax.typeof(leaf).sharding.mesh
    return {kind for kind, size in zip(mesh.axis_types, mesh.axis_sizes) if size > 1}


def _by_path(given: Shardings) -> dict[str, NamedSharding]:
    """The shardings of a tree by path; nothing if all of them are a single device."""
    named = {path_name(path): x for path, x in jax.tree.leaves_with_path(given)}
    if all(isinstance(x, SingleDeviceSharding) for x in named.values()):
        return {}
    for name, x in named.items():
        if isinstance(x, SingleDeviceSharding):
            problem = "is on a single device; put it on the mesh first, with jax.device_put"
            raise ValueError(f"shardings says that {name!r} {problem}")
        if not isinstance(x, NamedSharding):
            raise ValueError(
                f"shardings has {x!r} at {name!r}; use a NamedSharding for all, or "
                "jax.tree.map(lambda p: p.sharding, params)"
            )
    return named


def _given(by_path: dict[str, NamedSharding], name: str, leaf: Array) -> NamedSharding | None:
    if not by_path:
        return None
    if is_traced(leaf) and AxisType.Manual in _types(leaf):
        problem = "under jax.shard_map it is a block; call the optimizer outside, or without "
        problem += "shardings if every device has whole matrices"
        raise LeafError(name, leaf, problem)
    sharding = next((by_path[p] for p in path_prefixes(name) if p in by_path), None)
    if sharding is None:
        others = f"{len(by_path)} others, such as {next(iter(by_path))!r}"
        raise LeafError(name, leaf, f"shardings has none for it; it has {others}")
    try:
        sharding.shard_shape(leaf.shape)
    except (ValueError, IndexError):
        problem = f"{sharding.spec} on {dict(sharding.mesh.shape)} does not fit its axes"
        raise LeafError(name, leaf, problem) from None
    return sharding


def _check_one_kind(mesh: Mesh | AbstractMesh) -> None:
    if len({*mesh.axis_types}) > 1:
        kinds = dict(zip(mesh.axis_names, mesh.axis_types))
        raise ValueError(f"the mesh has axes of several kinds, {kinds}; make all of one kind")


def _warn_of_what_cannot_be_read(leaves: list[Any]) -> None:
    traced = [leaf for leaf in leaves if is_traced(leaf)]
    mesh = next(
        (jax.typeof(x).sharding.mesh for x in traced if AxisType.Auto in _types(x)), None
    )
    if mesh is not None:
        warnings.warn(
            f"muon_optax: on the mesh {dict(mesh.shape)} every device may do the work of all, "
            "for how the parameters lie on automatic axes cannot be read under jax.jit. Pass "
            "muon(..., shardings=jax.tree.map(lambda p: p.sharding, params)), or make the mesh "
            "with AxisType.Explicit",
            stacklevel=2,
        )
