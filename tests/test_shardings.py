"""The argument `shardings`: its forms, and the warning where it is missing."""

import re
import warnings

import flax.linen as nn
import jax
import jax.numpy as jnp
import optax
import pytest
from flax import nnx
from jax.sharding import NamedSharding
from jax.sharding import PartitionSpec as P
from sharded import (
    SPECS,
    forget_meshes,  # noqa: F401
    mesh_of,
    on,
    plain_params,
    step,
    written,
)

from benchmarks.hlo import collectives, count, flops
from muon_optax import METHODS, muon, scale_by_muon
from muon_optax.batching import infer_shardings

METHOD = METHODS["taylor1"]


def on_given(mesh, tree):
    return on(mesh)


def specs_by_path(tree):
    return jax.tree.map_with_path(lambda path, _: SPECS[path[0].key][path[1].key], tree)


FORMS = {
    "a tree of shardings": on,
    "a prefix": lambda mesh: on(mesh, {"a": P("fsdp", "tp"), "b": SPECS["b"]}),
    "specs with a mesh": lambda mesh: (mesh, SPECS),
    "None among specs": lambda mesh: (mesh, SPECS | {"b": {"kernel": P("tp"), "bias": None}}),
    "abstract parameters": lambda mesh: jax.tree.map(
        lambda x, s: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=s),
        plain_params(),
        on(mesh),
    ),
    "a function to shardings": lambda mesh: lambda tree: on(mesh),
    "a function to specs": lambda mesh: lambda tree: (mesh, SPECS),
    "a function with arguments": lambda mesh: jax.tree_util.Partial(on_given, mesh),
    "a function of paths": lambda mesh: lambda tree: (mesh, specs_by_path(tree)),
}


@pytest.mark.parametrize("name", FORMS)
def test_every_form_says_the_same(name):
    mesh = mesh_of()
    shapes = jax.eval_shape(plain_params)
    assert infer_shardings(FORMS[name](mesh), shapes) == tuple(jax.tree.leaves(on(mesh)))
    abstract = FORMS[name](mesh.abstract_mesh)
    assert [s.spec for s in infer_shardings(abstract, shapes)] == jax.tree.leaves(SPECS)


def test_one_spec_or_sharding_is_for_all_leaves():
    mesh = mesh_of()
    everywhere = NamedSharding(mesh, P())
    for given in (everywhere, (mesh, P()), (mesh, None), lambda tree: everywhere):
        assert infer_shardings(given, jax.eval_shape(plain_params)) == (everywhere,) * 3


def test_a_tree_that_is_callable_is_not_taken_for_a_function():
    class Model(dict):
        def __call__(self, x):
            raise AssertionError

    jax.tree_util.register_pytree_with_keys(
        Model,
        lambda m: ([(jax.tree_util.DictKey(k), m[k]) for k in m], tuple(m)),
        lambda names, children: Model(zip(names, children)),
    )
    mesh = mesh_of()
    found = infer_shardings(Model(on(mesh)), jax.eval_shape(plain_params))
    assert found == tuple(jax.tree.leaves(on(mesh)))


def test_shardings_of_the_only_device_are_accepted(monkeypatch):
    monkeypatch.setattr(jax, "device_count", lambda backend=None: 1)
    x = {"a": jnp.ones((8, 8))}
    assert infer_shardings({"a": x["a"].sharding}, x) is None


def test_shardings_in_other_words_are_accepted():
    mesh = mesh_of()
    x = {"a": jax.device_put(jnp.ones((8, 8)), NamedSharding(mesh, P("fsdp")))}
    same = NamedSharding(mesh, P("fsdp", None))
    abstract = NamedSharding(mesh.abstract_mesh, P("fsdp"))  # as types have it
    for shardings in (same, abstract):
        mu = scale_by_muon(shardings=shardings).init(x).mu["a"]
        assert mu.sharding.is_equivalent_to(same, 2)


class Net(nnx.Module):
    """Its kernel carries its partition spec."""

    def __init__(self, rngs):
        init = nnx.with_partitioning(nnx.initializers.ones, ("fsdp", "tp"))
        self.up = nnx.Linear(8, 16, kernel_init=init, rngs=rngs)


AXES = (("embed", "fsdp"), ("mlp", "tp"))  # a model's logical axes, as in MaxText


def of_nnx(mesh):
    with jax.set_mesh(mesh):
        params = nnx.state(Net(nnx.Rngs(0)), nnx.Param)
    return params, (mesh, nnx.get_partition_spec(params))


def of_nnx_function(mesh):
    params, _ = of_nnx(mesh)
    return params, lambda tree: (mesh, nnx.get_partition_spec(tree))


def of_linen(mesh, wrap=nn.with_partitioning, names=("fsdp", "tp")):
    """Boxed parameters, and specs of what is in the boxes."""
    layer = nn.Dense(16, kernel_init=wrap(nn.initializers.ones, names))
    params = layer.init(jax.random.key(0), jnp.ones((2, 8)))["params"]
    return params, (mesh, nn.get_partition_spec(params))


def of_logical_axes(mesh):
    params, (_, logical) = of_linen(mesh, nn.with_logical_partitioning, ("embed", "mlp"))
    return params, nn.logical_to_mesh_sharding(logical, mesh, AXES)


def of_logical_specs(mesh):
    params, (_, logical) = of_linen(mesh, nn.with_logical_partitioning, ("embed", "mlp"))
    return nn.unbox(params), (mesh, nn.logical_to_mesh(logical, AXES))


@pytest.mark.parametrize(
    "model", [of_nnx, of_nnx_function, of_linen, of_logical_axes, of_logical_specs]
)
def test_flax_says_where_its_parameters_are(model):
    """Before and under `jax.jit`; the kernel is cut in eight, the bias is on every device."""
    mesh = mesh_of()
    params, shardings = model(mesh)
    found = infer_shardings(shardings, jax.eval_shape(lambda: params))
    assert sorted(len([x for x in s.spec if x]) for s in found) == [0, 2]
    leaves, treedef = jax.tree.flatten(params)
    params = treedef.unflatten(map(jax.device_put, leaves, found))
    (updates, _), moved = step(muon(0.1, METHOD, shardings=shardings), params)
    assert moved["all-to-all"] == 2
    for x, sharding in zip(jax.tree.leaves(updates), found, strict=True):
        assert x.sharding.is_equivalent_to(sharding, x.ndim)


def data_parallel(tx, params, batch):
    """A training step with a cut batch: its program, whose work is all Muon's."""

    def step(params, state, batch):
        loss = lambda params: sum(jnp.sum(batch @ x) for x in jax.tree.leaves(params))
        updates, state = tx.update(jax.grad(loss)(params), state, params)
        return optax.apply_updates(params, updates), state

    return jax.jit(step).lower(params, tx.init(params), batch).compile()


@pytest.mark.parametrize("place", ["everywhere", "on one device"])
def test_the_warnings_line_divides_the_work_of_data_parallel_training(place):
    """It is shown once, at the user's line, by the filter that Python starts with."""
    mesh = mesh_of(shape=(8,), names=("data",))
    params = {f"layer{i}": {"kernel": jnp.ones((32, 32))} for i in range(8)}
    batch = jnp.ones((8, 32))
    alone = flops(data_parallel(muon(0.1, METHOD), params, batch).as_text())
    batch = jax.device_put(batch, NamedSharding(mesh, P("data")))
    if place == "everywhere":
        params = jax.device_put(params, NamedSharding(mesh, P()))
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("default")
        tx = optax.MultiSteps(muon(0.1, METHOD, record_every=2), 2).gradient_transformation()
        jax.jit(tx.init)(params)  # has no polar step to share
        assert caught == []
        data_parallel(tx, params, batch)
    (warning,) = caught
    assert warning.filename == __file__
    assert "mesh {'data': 8}" in str(warning.message)
    line = re.search(r"muon\(..., shardings=(.*?)\) if every", str(warning.message))[1]
    shardings = written(line, mesh=mesh)
    shared = data_parallel(muon(0.1, METHOD, shardings=shardings), params, batch)
    assert alone / flops(shared.as_text()) > 7
    assert count(collectives(shared.as_text()))["all-gather"] == 1


def test_an_nnx_model_without_annotations_is_placed_after_it_is_made():
    """And its optimizer, whose own counter would make the second step compile again."""
    everywhere = NamedSharding(mesh_of(), P())
    model = nnx.Linear(8, 16, rngs=nnx.Rngs(0))
    optimizer = nnx.Optimizer(model, muon(0.1, METHOD, shardings=everywhere), wrt=nnx.Param)
    for made in (model, optimizer):
        nnx.update(made, jax.device_put(nnx.state(made), everywhere))
    assert {x.sharding.mesh for x in jax.tree.leaves(nnx.state((model, optimizer)))} == {
        everywhere.mesh
    }
