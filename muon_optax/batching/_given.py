"""The argument `shardings`, in any of its forms, as one `NamedSharding` for every leaf.

>>> mesh = AbstractMesh((4,), ("fsdp",))
>>> tree = {"kernel": jax.ShapeDtypeStruct((8, 3), "float32")}
>>> given = (mesh, {"kernel": PartitionSpec("fsdp")})
>>> [tuple(sharding.spec) for sharding in given_shardings(given, tree).values()]
[('fsdp',)]
"""

import math
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
    Sharding,
    SingleDeviceSharding,
)
from jax.tree_util import Partial

from muon_optax._checks import describe
from muon_optax._leaves import LeafError, leaves_by_path, path_prefixes

# One of: None; a NamedSharding; a tree of NamedShardings, or a prefix of such a tree; a tree of
# ShapeDtypeStructs with shardings; a mesh and PartitionSpecs; a function from a tree to one of
# these.
Shardings = Any

_SPECS = (
    "NamedSharding(mesh, PartitionSpec(...)) for all leaves, or (mesh, specs) with a tree of "
    "PartitionSpecs"
)
_FORMS = f"use {_SPECS}, or jax.tree.map(lambda p: p.sharding, params)"


def given_shardings(given: Shardings, tree: Any) -> dict[str, NamedSharding]:
    """Return the sharding of every leaf by path; an empty dict if the argument is None.

    Shardings on the process's only device count as None.
    """
    by_path = _read(given, tree)
    if by_path is None:
        return {}
    leaves = leaves_by_path(tree)
    return {name: _find(by_path, name, leaf) for name, leaf in leaves.items()}


def is_traced(leaf: Any) -> bool:
    """Return whether a leaf is traced, so that only its type is known."""
    return isinstance(leaf, Tracer)


def axis_types(leaf: Array) -> set[AxisType]:
    """Return the types of the mesh axes of a traced array that have several devices."""
    mesh = jax.typeof(leaf).sharding.mesh
    return {kind for kind, size in zip(mesh.axis_types, mesh.axis_sizes) if size > 1}


def _read(given: Shardings, tree: Any) -> dict[str, NamedSharding] | None:
    """Return the leaves of the argument as shardings, by path."""
    if given is None:
        return None
    mesh, shardings = _split_mesh(_called(given, tree))
    by_path = leaves_by_path(shardings, is_leaf=lambda x: x is None)
    for name, x in by_path.items():
        # Accept shapes but not arrays: they would stay in memory as long as the optimizer.
        by_path[name] = x.sharding or x if isinstance(x, jax.ShapeDtypeStruct) else x
    if _on_the_only_device(by_path):
        return None
    return {name: _as_sharding(name, x, mesh) for name, x in by_path.items()}


def _called(given: Any, tree: Any) -> Any:
    """Return the argument or, if it is a function, what it returns for the tree."""
    if not _is_function(given):
        return given
    try:
        returned = given(tree)
    except AttributeError as error:
        if not any(map(is_traced, jax.tree.leaves(tree))):
            raise
        raise ValueError(
            "`shardings` is a function that failed on traced arrays, because these have no "
            "`.sharding` under jax.jit; return (mesh, specs) with PartitionSpecs made from "
            "paths and shapes, or pass shardings=jax.tree.map(lambda p: p.sharding, params)"
        ) from error
    if returned is None:
        raise ValueError(f"`shardings` is a function that returned None; {_FORMS}")
    return returned


def _is_function(given: Any) -> bool:
    """Return whether to call the argument; False for a mesh or a tree, even if callable."""
    if isinstance(given, Partial):  # a Partial is also a tree of its arguments
        return True
    is_leaf = jax.tree_util.all_leaves([given]) and not isinstance(given, Mesh)
    return is_leaf and callable(given)


def _split_mesh(given: Any) -> tuple[Mesh | AbstractMesh | None, Any]:
    """Return `(mesh, specs)`, or None and the argument itself."""
    if isinstance(given, tuple) and len(given) == 2:
        mesh, specs = given
        if isinstance(mesh, Mesh | AbstractMesh):
            return mesh, specs
    return None, given


def _on_the_only_device(by_path: dict[str, Any]) -> bool:
    """Return whether leaves are on the only device; refuse leaves on one device of several."""
    single = [name for name, x in by_path.items() if isinstance(x, SingleDeviceSharding)]
    if not single:
        return False
    (device,) = by_path[single[0]].device_set
    if jax.device_count(device.platform) == 1:
        return True
    raise ValueError(
        f"`shardings` has a SingleDeviceSharding{_at(single[0])}: this leaf is on one device. "
        "To copy parameters to every device, first write params = jax.device_put(params, "
        "NamedSharding(mesh, PartitionSpec())). To shard them, pass a tree of NamedShardings "
        "to jax.device_put. To use one device, drop `shardings`"
    )


def _as_sharding(name: str, x: Any, mesh: Mesh | AbstractMesh | None) -> NamedSharding:
    """Return one leaf of the argument as a sharding; None means an empty PartitionSpec."""
    if isinstance(x, NamedSharding):
        return x
    if isinstance(x, PartitionSpec) and mesh is None:
        raise ValueError(
            f"`shardings` has {x}{_at(name)} without a mesh; use shardings=(mesh, specs)"
        )
    if mesh is None or not (x is None or isinstance(x, PartitionSpec)):
        raise ValueError(f"`shardings` has {describe(x)}{_at(name)}; {_allowed(x)}")
    try:
        return NamedSharding(mesh, x or PartitionSpec())
    except Exception:  # JAX raises several types
        axes = ", ".join(map(repr, mesh.axis_names))
        raise ValueError(
            f"`shardings` has {x}{_at(name)}; use each axis of the mesh ({axes}) at most once, "
            "and no other name"
        ) from None


def _allowed(x: Any) -> str:
    """Say what to write instead of a leaf that is not a sharding."""
    if isinstance(x, Sharding):
        return (
            "only a NamedSharding has a mesh; first write params = jax.device_put(params, "
            "NamedSharding(mesh, PartitionSpec(...)))"
        )
    # The sharding of a shape may be None.
    return f"use {_SPECS}" if x is None or isinstance(x, jax.ShapeDtypeStruct) else _FORMS


def _find(by_path: dict[str, NamedSharding], name: str, leaf: Array) -> NamedSharding:
    """Return the sharding at a leaf's path, or at a prefix of the path."""
    if is_traced(leaf) and AxisType.Manual in axis_types(leaf):
        problem = "inside jax.shard_map, this is only a block of the leaf; call the optimizer "
        problem += "outside, or drop `shardings` if every device has whole matrices"
        raise LeafError(name, leaf, problem)
    found = [by_path[prefix] for prefix in path_prefixes(name) if prefix in by_path]
    problem = _mismatch(found[0], leaf) if found else _missing(by_path, name)
    if problem:
        raise LeafError(name, leaf, problem)
    return found[0]


def _missing(by_path: dict[str, NamedSharding], name: str) -> str:
    """Say what to do about a leaf without a sharding."""
    deeper = [path.removesuffix(f"/{name}") for path in by_path if path.endswith(f"/{name}")]
    if deeper:
        keys = "".join(f"[{key!r}]" for key in deeper[0].split("/"))
        return f"`shardings` has this path under {deeper[0]!r}; pass the tree at {keys}"
    problem = "`shardings` has no entry for this leaf"
    if by_path:
        noun = "entry" if len(by_path) == 1 else "entries"
        problem += f", only {len(by_path)} other {noun}, such as {next(iter(by_path))!r}"
    return f"{problem}; add one"


def _mismatch(sharding: NamedSharding, leaf: Array) -> str | None:
    """Say why a sharding does not fit a leaf; None if it does."""
    sizes = dict(sharding.mesh.shape)
    own = dict(jax.typeof(leaf).sharding.mesh.shape) if isinstance(leaf, Array) else {}
    if own and own != sizes:
        return f"its mesh is {own}, but that of `shardings` is {sizes}; use the arrays' mesh"
    said = f"`shardings` has {sharding.spec} on {sizes}, which does not fit the leaf's axes"
    if len(sharding.spec) > leaf.ndim:
        return f"{said}; give at most {leaf.ndim} entries, or a tree with one spec per leaf"
    for axis, entry in enumerate(sharding.spec):
        if entry is not None and not isinstance(entry, str | tuple):
            return f"{said}; use names of axes or None in place of {entry!r}"
        names = (entry,) if isinstance(entry, str) else entry or ()
        parts = math.prod(sizes[name] for name in names)
        if leaf.shape[axis] % parts:
            return (
                f"{said}: {leaf.shape[axis]} is not divisible by {parts}; use None for axis "
                f"{axis}, or fewer devices"
            )
    return None


def _at(name: str) -> str:
    return f" at {name!r}" if name else ""
