"""Training on a mesh: a whole model, what is chained to Muon, and the state between steps."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from jax.sharding import AxisType, NamedSharding
from jax.sharding import PartitionSpec as P
from sharded import (
    KINDS,
    METHOD,
    close,
    forget_meshes,  # noqa: F401
    given,
    mesh_of,
    run,
)

from muon_optax import (
    FLAX,
    Rule,
    muon,
    scale_by_muon,
    scale_by_neuron_rms,
    scale_by_shape,
)
from muon_optax.diagnostics import record_updates

# A model with leaves of every kind, and how they are cut.
MODEL = {
    "embedding": ((32, 16), P(None, "fsdp")),
    "query/kernel": ((16, 8, 4), P("fsdp", "tp")),
    "query/bias": ((8, 4), P("tp")),
    "out/kernel": ((8, 4, 16), P("tp", None, "fsdp")),
    "layers/up/kernel": ((5, 16, 32), P(None, "fsdp", "tp")),
    "fused/kernel": ((16, 24), P("fsdp", "tp")),
    "norm/scale": ((16,), P()),
}
RULES = (
    Rule("layers", "layers", "layers in out"),
    Rule("fused", "fused", "in out[q=16 k=4 v=4]"),
    *FLAX,
)


def model(seed):
    keys = jax.random.split(jax.random.key(seed), len(MODEL))
    return {name: jax.random.normal(k, MODEL[name][0]) for k, name in zip(keys, MODEL)}


def train(kind=None):
    """Three steps of the default, on a mesh of that kind or on one device."""
    shardings, place = None, lambda tree: tree
    if kind:
        specs = {name: spec for name, (_, spec) in MODEL.items()}
        if kind == AxisType.Explicit:  # with another spelling than JAX's a step compiles twice
            specs = {n: P(*s, *[None] * (len(MODEL[n][0]) - len(s))) for n, s in specs.items()}
        shardings = {name: NamedSharding(mesh_of(kind), spec) for name, spec in specs.items()}
        place = functools.partial(jax.device_put, device=shardings)
    options = {"weight_decay": 0.1, "dims": RULES, "record_every": 2}
    rate = optax.linear_schedule(0.02, 0.0, 10)
    tx = muon(rate, **options, shardings=shardings and given(shardings))

    @functools.partial(jax.jit, donate_argnums=(0, 1))
    def step(params, state, grads):
        updates, state = tx.update(grads, state, params)
        return optax.apply_updates(params, updates), state

    params = place(model(0))
    state = tx.init(params)
    for seed in range(1, 4):
        params, state = step(params, state, place(model(seed)))
    return step, params, state, place(model(4))


@functools.cache
def trained_alone():
    return train()[1]


@pytest.mark.slow
@pytest.mark.parametrize("kind", KINDS)
def test_a_whole_model_trains_as_on_one_device(kind):
    """Decay, shape factors, the fallback and all; compiled once, with one copy of the state."""
    step, params, state, grads = train(kind)
    for x, y in zip(*map(jax.tree.leaves, (params, trained_alone())), strict=True):
        np.testing.assert_allclose(x, y, atol=1e-6)
    assert step._cache_size() == 1
    aliased = step.lower(params, state, grads).compile().memory_analysis().alias_size_in_bytes
    on_one = sum(x.addressable_shards[0].data.nbytes for x in jax.tree.leaves((params, state)))
    assert aliased == on_one


@pytest.mark.slow
@pytest.mark.parametrize("kind", KINDS)
def test_what_stands_beside_muon_takes_the_same_arrays(kind):
    """NorMuon, shape factors and the record, on leaves whose reshape explicit axes refuse."""
    dims = {"heads": "heads in out", "fused": "in out[q=4 k=2 v=2]"}
    shapes = {"heads": (6, 8, 12), "fused": (16, 8)}
    x = {n: jax.random.normal(jax.random.key(0), shape) for n, shape in shapes.items()}
    specs = {"heads": P(None, "tp", "fsdp"), "fused": P("fsdp", "tp")}
    on_mesh = {name: NamedSharding(mesh_of(kind), spec) for name, spec in specs.items()}

    def chain(shardings):
        options = {"dims": dims, "shardings": shardings}
        measures = {"measures": ("orthogonality_error",), **options}
        return optax.chain(
            record_updates(1, optax.identity(), METHOD, **measures),
            scale_by_neuron_rms(dims=dims),
            scale_by_shape("rms_to_rms", dims=dims),
        )

    _, expected, state_of_one = run(chain(None), x)
    _, found, state = run(chain(given(on_mesh)), jax.device_put(x, on_mesh))
    close(found, expected, within=1e-5)
    for pair in zip(*(jax.tree.leaves(s[0].measured) for s in (state, state_of_one))):
        np.testing.assert_allclose(*pair, atol=1e-6)
    for name, y in found.items():
        assert y.sharding.is_equivalent_to(on_mesh[name], y.ndim)


def test_momentum_stays_as_its_parameters_lie_whatever_gradients_do():
    """A replicated kernel, whose gradient is cut along its outputs as activations are."""
    mesh = mesh_of()
    rows, outputs = (NamedSharding(mesh, P("fsdp", *name)) for name in ((), ("tp",)))
    everywhere = NamedSharding(mesh, P())
    kernel, x = jax.device_put((jnp.ones((16, 32)), jnp.ones((8, 16))), (everywhere, rows))
    tx = scale_by_muon(METHOD, shardings=everywhere)

    @jax.jit
    def step(kernel, state):
        def loss(kernel):
            return jnp.sum(jax.lax.with_sharding_constraint(x @ kernel, outputs) ** 4)

        updates, state = tx.update(jax.grad(loss)(kernel), state, kernel)
        return kernel + updates, state

    state = tx.init(kernel)
    for _ in range(3):
        kernel, state = step(kernel, state)
    assert state.mu.sharding.is_equivalent_to(everywhere, 2)
    assert step._cache_size() == 1


def test_a_state_of_keys_and_numbers_passes():
    """A fallback may keep more than arrays of floats."""
    sharding = NamedSharding(mesh_of(), P())
    params = jax.device_put({"kernel": jnp.ones((8, 8)), "bias": jnp.ones(8)}, sharding)
    fallback = optax.chain(optax.add_noise(0.1, 0.5, jax.random.key(0)), optax.sgd(0.1))
    tx = muon(0.1, METHOD, fallback=fallback, shardings=sharding)
    updates, _ = jax.jit(tx.update)(params, tx.init(params), params)
    assert np.isfinite(updates["bias"]).all()
