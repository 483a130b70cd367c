"""States on a mesh: where they are after `init`, and that they stay there."""

import contextlib
import functools

import jax
import jax.numpy as jnp
import optax
import pytest
from jax.sharding import AxisType, NamedSharding, SingleDeviceSharding
from jax.sharding import PartitionSpec as P

from muon_optax import (
    FLAX,
    METHODS,
    Rule,
    muon,
    partition_matrices,
    place_state,
    scale_by_muon,
    scale_by_neuron_rms,
)

KINDS = (AxisType.Auto, AxisType.Explicit)
METHOD = METHODS["taylor1"]
MODEL = {
    ("attention", "kernel"): ((16, 8), P("fsdp", "tp")),
    ("norm", "scale"): ((8,), P("tp")),
    ("layers", "kernel"): ((3, 8, 16), P(None, "fsdp", "tp")),
    ("table", "embedding"): ((16, 4), P(None, "tp")),
}
DIMS = (Rule("layers", "layers", "layers in out"), *FLAX)


@pytest.fixture(autouse=True, scope="module")
def forget_meshes():
    """JAX's inner functions remember the automatic mesh that they were first traced on."""
    yield
    jax.clear_caches()


def mesh_of(kind=AxisType.Auto):
    devices = jax.devices("cpu")[:8]
    return jax.make_mesh((4, 2), ("fsdp", "tp"), axis_types=(kind,) * 2, devices=devices)


def normuon(dims, shardings):
    polar = scale_by_muon(METHOD, dims=dims, shardings=shardings)
    return optax.chain(polar, scale_by_neuron_rms(dims=dims), optax.scale(-0.1))


def wrapped(wrapper, shardings):
    """What a user puts around `muon`."""
    inner = functools.partial(muon, 0.1, METHOD, dims=DIMS, shardings=shardings)
    return place_state(wrapper(inner), shardings)


OPTIMIZERS = {
    "muon": lambda shardings: muon(
        optax.linear_schedule(0.1, 0.0, 10),
        METHOD,
        dims=DIMS,
        record_every=2,
        on_nonfinite="skip",
        shardings=shardings,
    ),
    "NorMuon": lambda shardings: partition_matrices(
        functools.partial(normuon, shardings=shardings),
        optax.adafactor(0.1, min_dim_size_to_factor=4),
        DIMS,
        shardings=shardings,
    ),
    "hyperparameters": functools.partial(
        wrapped, lambda inner: optax.inject_hyperparams(lambda beta: inner(beta=beta))(0.9)
    ),
    "accumulated gradients": functools.partial(
        wrapped, lambda inner: optax.MultiSteps(inner(), 2)
    ),
    "others in a chain": functools.partial(
        wrapped,
        lambda inner: optax.chain(optax.clip_by_global_norm(1.0), inner(), optax.ema(0.9)),
    ),
}


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("name", OPTIMIZERS)
def test_a_state_is_on_the_mesh_from_init_on_and_compiles_once(name, kind):
    """Outside of `jax.jit` and under it; moments are sharded as their parameters."""
    mesh = mesh_of(kind)
    params = {path: {name: jnp.ones(shape)} for (path, name), (shape, _) in MODEL.items()}
    cuts = {path: {name: NamedSharding(mesh, cut)} for (path, name), (_, cut) in MODEL.items()}
    params = jax.device_put(params, cuts)
    tx = OPTIMIZERS[name](cuts if kind == AxisType.Auto else None)
    # JAX wants the mesh of explicit axes where arrays are made without one.
    with jax.set_mesh(mesh) if kind == AxisType.Explicit else contextlib.nullcontext():
        state, traced, update = tx.init(params), jax.jit(tx.init)(params), jax.jit(tx.update)
        shapes = {x.shape: x.sharding for x in jax.tree.leaves(params)}
        for x, y in zip(jax.tree.leaves(state), jax.tree.leaves(traced), strict=True):
            assert x.sharding == y.sharding
            assert x.sharding.mesh == mesh
            if x.shape in shapes:
                assert x.sharding == shapes[x.shape]
        for _ in range(3):
            _, state = update(params, state, params)
    assert update._cache_size() == 1
    for x, y in zip(jax.tree.leaves(state), jax.tree.leaves(traced), strict=True):
        assert x.sharding == y.sharding


@pytest.mark.parametrize(
    ("kind", "spec"), [(KINDS[0], P(None, None, "tp")), (KINDS[1], P(None, None, None))]
)
def test_a_moment_of_columns_is_cut_as_the_columns_are(kind, spec):
    """On explicit axes NorMuon gathers what it divides, so its moment stays whole."""
    mesh = mesh_of(kind)
    shardings = {"kernel": NamedSharding(mesh, P(None, "fsdp", "tp"))}
    params = jax.device_put({"kernel": jnp.ones((4, 8, 16))}, shardings)
    tx = place_state(scale_by_neuron_rms(dims="layers in out"), shardings)
    (nu,) = tx.init(params).nu["kernel"]
    assert nu.shape == (4, 1, 16)
    assert nu.sharding == NamedSharding(mesh, spec)


def test_a_state_of_one_device_is_left_alone():
    params = {"kernel": jnp.ones((8, 16)), "bias": jnp.ones(16)}
    for tx in (muon(0.1, METHOD), place_state(optax.sgd(0.1, 0.9))):
        text = jax.jit(tx.update).lower(params, tx.init(params), params).as_text()
        assert "sharding" not in text
        for x in jax.tree.leaves(tx.init(params)):
            assert isinstance(x.sharding, SingleDeviceSharding)
