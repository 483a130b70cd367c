"""Mistakes with the argument `shardings`: each is an error with what to write instead."""

import re

import jax
import jax.numpy as jnp
import pytest
from jax.sharding import Mesh, NamedSharding, Sharding
from jax.sharding import PartitionSpec as P
from sharded import (
    KINDS,
    SPECS,
    forget_meshes,  # noqa: F401
    mesh_of,
    on,
    placed,
    plain_params,
    step,
    written,
)

from muon_optax import METHODS, SVD, muon, scale_by_muon

METHOD = METHODS["taylor1"]
# The second of two layers may be an output layer.
pytestmark = pytest.mark.filterwarnings("ignore:muon_optax is not sure")


# What is wrong, what the error says, and what it says to write: Python where it is one line.
FROM_ARRAYS, WITH_MESH = "jax.tree.map(lambda p: p.sharding, params)", "(mesh, specs)"
MISTAKES = {
    "another mesh": (
        lambda mesh: NamedSharding(mesh_of(shape=(8,), names=("fsdp",)), P("fsdp")),
        r"leaf 'a/kernel' .*its mesh is {'fsdp': 4, 'tp': 2}, but .* {'fsdp': 8}; use the arr",
        on,
    ),
    "two meshes": (
        lambda mesh: {
            "a": on(mesh)["a"],
            "b": NamedSharding(mesh_of(shape=(8,), names=("fsdp",)), P()),
        },
        r"leaf 'b/bias' .*on .*'fsdp': 8.*other leaves are on .*; use one mesh",
        on,
    ),
    "an axis that the mesh lacks": (
        lambda mesh: (mesh, SPECS | {"a": P("rows")}),
        r"has P.*'rows'.* at 'a'; use each axis of the mesh \('fsdp', 'tp'\) at most once",
        on,
    ),
    "an axis twice": (
        lambda mesh: (mesh, P("tp", "tp")),
        r"has P.*'tp', 'tp'.*; use each axis .* at most once, and no other name",
        on,
    ),
    "too many entries": (
        lambda mesh: (mesh, SPECS | {"b": P("tp", None)}),
        r"leaf 'b/bias' \(shape \(6,\), float32\): .*not fit the leaf's axes; give at most 1 e",
        on,
    ),
    "an uneven cut": (
        lambda mesh: (mesh, SPECS | {"b": {"kernel": P(None, "fsdp"), "bias": P()}}),
        r"leaf 'b/kernel' .*: 6 is not divisible by 4; use None for axis 1",
        on,
    ),
    "no name of an axis": (
        lambda mesh: (mesh, P(P.UNCONSTRAINED)),
        r"leaf 'a/kernel' .*; use names of axes or None in place of",
        on,
    ),
    "specs without a mesh": (lambda mesh: SPECS, r"has P.* at 'a/kernel' without", WITH_MESH),
    "the mesh last": (lambda mesh: (SPECS, mesh), r"at '0/a/kernel' without a m", WITH_MESH),
    "a missing leaf": (
        lambda mesh: {"a": on(mesh)["a"]},
        r"leaf 'b/bias' .*no entry for this leaf, only 1 other entry, .* 'a/kernel'; add",
        on,
    ),
    "nothing": (lambda mesh: {}, r"leaf 'a/kernel' .*has no entry for this leaf; add one", on),
    "a level too many": (
        lambda mesh: {"params": on(mesh)},
        r"leaf 'a/kernel' .*this path under 'params'; pass the tree at \['params'\]",
        lambda mesh: {"params": on(mesh)}["params"],
    ),
    "a name": (lambda mesh: "fsdp", r"`shardings` has 'fsdp'; use Nam", FROM_ARRAYS),
    "names": (lambda mesh: {"a": ("fsdp", 2)}, r"has 'fsdp' at 'a/0'; use", WITH_MESH),
    "a mesh": (lambda mesh: mesh, r"`shardings` has Mesh.*; use ", FROM_ARRAYS),
    "the arrays": (placed, r"`shardings` has <float32 array.* at 'a/kernel'; use", FROM_ARRAYS),
    "shapes": (
        lambda mesh: jax.eval_shape(plain_params),
        r"has ShapeDtypeStruct.* at 'a/kernel'; use .* tree of PartitionSpecs$",
        WITH_MESH,
    ),
    "the shardings of shapes": (
        lambda mesh: jax.tree.map(lambda p: p.sharding, jax.eval_shape(plain_params)),
        r"has None at 'a/kernel'; use .* tree of PartitionSpecs$",
        WITH_MESH,
    ),
    "another sharding": (
        lambda mesh: NamedSharding(mesh, P("tp")),
        r"leaf 'a/kernel' .*sharded as P.*'fsdp'.*`shardings` has P.*'tp'.*; pass jax.tree.map",
        on,
    ),
    "another order of devices": (
        lambda mesh: on(Mesh(mesh.devices[::-1], mesh.axis_names)),
        r"leaf 'a/kernel' .*in another order; use the arrays' mesh",
        on,
    ),
    "axes of two types": (
        lambda mesh: (mesh_of(*KINDS), P()),
        r"axes of several types, .*; use AxisType.Auto for all axes, or AxisType.Expl",
        on,
    ),
    "a function that forgets to return": (
        lambda mesh: lambda tree: None,
        r"a function that returned None; use Named",
        WITH_MESH,
    ),
    "a function to nonsense": (lambda mesh: len, r"`shardings` has 2; use Named", WITH_MESH),
    "a function to a function": (
        lambda m: lambda t: on,
        r"has <function on .*; use",
        WITH_MESH,
    ),
}


@pytest.mark.parametrize("name", MISTAKES)
def test_a_mistake_is_an_error_with_what_to_write(name):
    wrong, message, right = MISTAKES[name]
    mesh = mesh_of()
    params = placed(mesh)
    with pytest.raises(ValueError, match=message) as error:
        given = params if name.startswith("another") else plain_params()
        muon(0.1, SVD(), shardings=wrong(mesh)).init(given)
    if callable(right):
        right = right(mesh)
    else:
        assert right in str(error.value)
        right = written(right, mesh=mesh, params=params, specs=SPECS)
    (updates, _), moved = step(muon(0.1, SVD(), shardings=right), params)
    assert moved["all-to-all"]
    assert {x.sharding.mesh for x in jax.tree.leaves(updates)} == {mesh}


@pytest.mark.parametrize(("prefix", "where"), [(False, " at 'a/kernel'"), (True, "")])
def test_shardings_of_one_device_of_several_are_an_error(prefix, where):
    mesh, params = mesh_of(), plain_params()
    of_arrays = jax.tree.map(lambda p: p.sharding, params)
    given = of_arrays["a"]["kernel"] if prefix else of_arrays
    said = rf"SingleDeviceSharding{where}: .* write params = (.*?)\. To shard .*drop `shar"
    with pytest.raises(ValueError, match=said) as error:
        muon(0.1, shardings=given).init(params)
    line = re.search(said, str(error.value))[1]
    params = written(line, mesh=mesh, params=params)
    shardings = jax.tree.map(lambda p: p.sharding, params)
    _, moved = step(muon(0.1, METHOD, shardings=shardings), params)
    assert moved["all-gather"]


def test_a_sharding_without_a_mesh_is_an_error():
    class Positional(Sharding):
        """JAX has others like it, but not the same ones in every version."""

    mesh, params = mesh_of(), plain_params()
    said = r"at 'a/kernel'; only a NamedSharding has a mesh; first write params = (.*)"
    with pytest.raises(ValueError, match=said) as error:
        muon(0.1, shardings=jax.tree.map(lambda p: Positional(), params)).init(params)
    line = re.search(said, str(error.value))[1].replace("...", "")
    params = written(line, mesh=mesh, params=params)
    shardings = jax.tree.map(lambda p: p.sharding, params)
    _, moved = step(muon(0.1, METHOD, shardings=shardings), params)
    assert moved["all-gather"]


@pytest.mark.parametrize("kind", KINDS)
def test_a_function_that_asks_traced_arrays_for_their_shardings_is_an_error(kind):
    """It passes `init` outside of `jax.jit`."""
    params = placed(mesh_of(kind))
    tx = muon(0.1, METHOD, shardings=lambda tree: jax.tree.map(lambda p: p.sharding, tree))
    state = tx.init(params)
    said = r"failed on traced arrays, .*jax.jit; return .* shardings=(jax.*, params\))"
    with pytest.raises(ValueError, match=said) as error:
        jax.jit(tx.update)(params, state, params)
    shardings = written(re.search(said, str(error.value))[1], params=params)
    _, moved = step(muon(0.1, METHOD, shardings=shardings), params)
    assert moved["all-to-all"]


def test_an_error_of_a_functions_own_is_left_as_it_is():
    params = placed(mesh_of())
    with pytest.raises(AttributeError, match="no attribute 'shardings'"):
        muon(0.1, shardings=lambda tree: tree["a"]["kernel"].shardings).init(params)


def test_a_mesh_that_traced_arrays_are_not_on_is_an_error():
    other = NamedSharding(mesh_of(shape=(8,), names=("fsdp",)), P("fsdp"))
    params = placed(mesh_of())
    with pytest.raises(ValueError, match=r"its mesh is {'fsdp': 4, .*; use the arrays' mesh"):
        jax.jit(muon(0.1, SVD(), shardings={"a": other, "b": {"kernel": other}}).init)(params)


def test_blocks_under_shard_map_are_not_taken_for_matrices_of_a_mesh():
    sharding = NamedSharding(mesh_of(), P("fsdp"))
    tx = scale_by_muon(shardings=sharding)
    specs = {"in_specs": P("fsdp"), "out_specs": P("fsdp")}
    step = jax.shard_map(lambda x: tx.update(x, tx.init(x))[0], mesh=sharding.mesh, **specs)
    with pytest.raises(
        ValueError, match=r"inside jax.shard_map, .* a block of the leaf; call the opti"
    ):
        step(jax.device_put(jnp.ones((8, 8)), sharding))
