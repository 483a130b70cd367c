"""Knows where arrays lie on a mesh: read from them, or as an argument says."""

import warnings
from typing import Any

import jax
import numpy as np
from jax import Array, lax
from jax.core import Tracer
from jax.sharding import AxisType, NamedSharding, PartitionSpec

from muon_optax.checks import LeafError, path_name, prefixes

Shardings = Any  # None, a NamedSharding, a tree of them like the parameters, or a prefix of one


def read_shardings(given: Shardings, tree: Any) -> tuple[NamedSharding, ...] | None:
    """The sharding of every leaf, in the order of `jax.tree.leaves(tree)`.

    It is read from the arrays: outside of `jax.jit` from all, inside from those whose mesh has
    axes of `AxisType.Explicit`. Of others a trace does not know it.

    Args:
      given: For what cannot be read: a `NamedSharding` for all, or a tree of them or a prefix
        of one, found by path; or None.
      tree: Arrays, traced or not.

    Returns:
      None where no leaf is spread over devices, or where that cannot be known. On explicit axes
      a mesh of one device counts, too: array types have its axes.

    Raises:
      ValueError: If `given` is no tree of `NamedSharding`s.
      LeafError: If it has none for a leaf or one with too many axes, or a leaf is on another
        mesh than those before it.
    """
    by_path = _by_path(given)
    named = [(path_name(path), leaf) for path, leaf in jax.tree.leaves_with_path(tree)]
    found = [_own(leaf) or _given(by_path, name, leaf) for name, leaf in named]
    mesh = next((s.mesh for s in found if s is not None), None)
    if mesh is None:
        _warn_of_what_cannot_be_read([leaf for _, leaf in named])
    if mesh is None or not _matters(mesh):
        return None
    for (name, leaf), sharding in zip(named, found):
        if sharding is not None and sharding.mesh != mesh:
            problem = f"it is on the mesh {sharding.mesh}, others are on {mesh}; use one"
            raise LeafError(name, leaf, problem)
    # What is on no mesh goes to every device, as it would in `jax.jit`.
    return tuple(s or NamedSharding(mesh, PartitionSpec()) for s in found)


def constrain(x: Array, sharding: NamedSharding) -> Array:
    """`x` in that sharding; a promise where a mesh's axes are automatic, a move where not."""
    if AxisType.Explicit in sharding.mesh.axis_types:
        return jax.sharding.reshard(x, sharding)
    return lax.with_sharding_constraint(x, sharding)


def place_like(like: Any, given: Shardings, tree: Any) -> Any:
    """A tree with the shardings that `read_shardings(given, like)` finds, if any.

    Args:
      like: A tree of the same structure.
      given: See `read_shardings`.
      tree: Arrays with the shapes of `like`.

    Returns:
      The same arrays, placed.

    Raises:
      ValueError: See `read_shardings`.
    """
    shardings = read_shardings(given, like)
    if shardings is None:
        return tree
    leaves, treedef = jax.tree.flatten(tree)
    return treedef.unflatten([constrain(x, s) for x, s in zip(leaves, shardings)])


def gathered(x: Array) -> Array:
    """An array of explicit axes, whole on every device, as any reshape is then defined.

    Args:
      x: Any array.

    Returns:
      The same; where axes are automatic as it was, because XLA finds its own way.
    """
    own = _explicit(x)
    return constrain(x, _everywhere(own, x)) if own else x


def scattered(x: Array, like: Array) -> Array:
    """The inverse of `gathered`.

    Args:
      x: An array, whole on every device if `like` has explicit axes.
      like: What lies as it should.

    Returns:
      The same array.
    """
    own = _explicit(like)
    return constrain(x, own) if own else x


def place_everywhere(like: Any, given: Shardings, tree: Any) -> Any:
    """A tree, whole on every device of the mesh that `read_shardings` finds, if any.

    Args:
      like: A tree of the parameters' structure.
      given: See `read_shardings`.
      tree: Any arrays.

    Returns:
      The same arrays, placed.

    Raises:
      ValueError: See `read_shardings`.
    """
    shardings = read_shardings(given, like)
    if shardings is None:
        return tree
    return jax.tree.map(lambda x: constrain(x, _everywhere(shardings[0], x)), tree)


def place_rest(params: Any, state: Any) -> Any:
    """A new state, on every device of the parameters' mesh what of it is on one device.

    Else a step would be compiled twice: for the counters as they are made, and as they return.

    Args:
      params: Arrays; traced ones are let be.
      state: Of an optimizer, as `init` makes it.

    Returns:
      The same state, placed.
    """
    owns = [_own(leaf) for leaf in jax.tree.leaves(params) if not _is_traced(leaf)]
    known = next(filter(None, owns), None)
    if known is None:
        return state

    def placed(x: Array) -> Array:
        if _is_traced(x) or _own(x) is not None:
            return x
        # Unlike jax.device_put it does not ask all processes if their arrays are equal.
        everywhere, copy = _everywhere(known, x), np.asarray(x)
        return jax.make_array_from_callback(x.shape, everywhere, copy.__getitem__)

    return jax.tree.map(placed, state)


def _everywhere(sharding: NamedSharding, x: Array) -> NamedSharding:
    # As JAX writes it after a step, which is compiled anew for another spelling.
    explicit = AxisType.Explicit in sharding.mesh.axis_types
    return NamedSharding(sharding.mesh, PartitionSpec(*[None] * x.ndim * explicit))


def _is_traced(leaf: Any) -> bool:
    return isinstance(leaf, Tracer)


def _own(leaf: Array) -> NamedSharding | None:
    if _is_traced(leaf):
        sharding = jax.typeof(leaf).sharding
        known = not _types(leaf) - {AxisType.Explicit}
    else:
        sharding, known = getattr(leaf, "sharding", None), True
    named = isinstance(sharding, NamedSharding) and _matters(sharding.mesh)
    return sharding if named and known else None


def _explicit(x: Array) -> NamedSharding | None:
    own = _own(x)
    return own if own is not None and AxisType.Explicit in own.mesh.axis_types else None


def _matters(mesh: Any) -> bool:
    """Whether arrays on a mesh are spread, or have its axes in their types."""
    return mesh.size > 1 or AxisType.Explicit in mesh.axis_types


def _types(leaf: Array) -> set[AxisType]:
    """Of the axes of a traced array's mesh."""
    mesh = jax.typeof(leaf).sharding.mesh
    return {kind for kind, size in zip(mesh.axis_types, mesh.axis_sizes) if size > 1}


def _by_path(given: Shardings) -> dict[str, NamedSharding]:
    by_path = {}
    for path, sharding in jax.tree.leaves_with_path(given):
        if not isinstance(sharding, NamedSharding):
            raise ValueError(
                f"shardings has {sharding!r} at {path_name(path)!r}; use a NamedSharding for "
                "all, or jax.tree.map(lambda p: p.sharding, params)"
            )
        by_path[path_name(path)] = sharding
    return by_path


def _given(by_path: dict[str, NamedSharding], name: str, leaf: Array) -> NamedSharding | None:
    if not by_path:
        return None
    sharding = next((by_path[p] for p in prefixes(name) if p in by_path), None)
    if sharding is None:
        raise LeafError(name, leaf, f"shardings has none for it; it has {sorted(by_path)}")
    if len(sharding.spec) > len(leaf.shape):
        raise LeafError(name, leaf, f"its sharding {sharding.spec} is for more axes")
    return sharding


def _warn_of_what_cannot_be_read(leaves: list[Any]) -> None:
    traced = [leaf for leaf in leaves if _is_traced(leaf)]
    mesh = next(
        (jax.typeof(x).sharding.mesh for x in traced if AxisType.Auto in _types(x)), None
    )
    if mesh is not None:
        warnings.warn(
            f"on the mesh {dict(mesh.shape)} every device may do the work of all: how the "
            "parameters lie on automatic axes cannot be read under jax.jit. Pass "
            "shardings=jax.tree.map(lambda p: p.sharding, params), or make the mesh with "
            "AxisType.Explicit",
            stacklevel=2,
        )
