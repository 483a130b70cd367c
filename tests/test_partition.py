"""Two optimizers for one model: who trains which leaf, and what a missing gradient freezes."""

from dataclasses import dataclass
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from muon_optax import EQUINOX, compat, muon, plan, scale_by_muon


@partial(jax.tree_util.register_dataclass, data_fields=["weight", "bias"], meta_fields=[])
@dataclass
class Layer:
    """A tree that is itself callable, as every Equinox module with `__call__` is."""

    weight: jax.Array
    bias: jax.Array

    def __call__(self, x):
        raise AssertionError("a tree was called as a function")


def layer():
    key = jax.random.key(0)
    return Layer(jax.random.normal(key, (6, 4)), jnp.ones(6))


OPTIONS = {
    "rules": {"dims": EQUINOX},
    "a tree of specs": {"dims": Layer("out in", None)},
    "a function": {"dims": lambda _: EQUINOX},
    "a tree of masks": {
        "dims": EQUINOX,
        "weight_decay": 0.1,
        "weight_decay_mask": Layer(True, False),
    },
    "every wrapper": {"dims": EQUINOX, "on_nonfinite": "skip", "record_every": 2},
}


@pytest.mark.parametrize("options", OPTIONS.values(), ids=OPTIONS)
def test_a_callable_model_trains_like_a_dict(options):
    def step(params, options):
        tx = muon(0.02, adam_learning_rate=1e-3, **options)
        return jax.jit(tx.update)(params, tx.init(params), params)[0]

    model = layer()
    as_dict = {
        key: vars(value) if isinstance(value, Layer) else value
        for key, value in options.items()
    }
    found, expected = step(model, options), step(vars(model), as_dict)
    assert isinstance(found, Layer)
    for name, u in vars(found).items():
        np.testing.assert_array_equal(u, expected[name])


def test_a_callable_model_has_a_plan_and_moves_between_optimizers():
    model = layer()
    assert [leaf.optimizer for leaf in plan(model, EQUINOX).leaves] == ["Muon", "fallback"]
    compat.muon(0.02).init(model)
    state = muon(0.02, dims=EQUINOX).init(model)
    moved = compat.transfer(optax.adamw(0.1).init(model), like=state)
    assert jax.tree.structure(moved) == jax.tree.structure(state)


@pytest.mark.parametrize("fallback", [None, optax.novograd(0.1), optax.adafactor(0.1)])
def test_a_parameter_called_count_without_a_gradient_does_not_stop_the_clock(fallback):
    params = {"kernel": jnp.eye(4), "count": jnp.ones(3), "bias": jnp.ones(4)}
    tx = muon(0.1, fallback=fallback)
    state = tx.init(params)
    updates, after = tx.update(params | {"count": None}, state, params)
    assert not updates["count"].any() and updates["bias"].any()
    clocks = [x for x in jax.tree.leaves(after) if x.shape == () and x.dtype == jnp.int32]
    assert clocks and all(int(clock) == 1 for clock in clocks)


@pytest.mark.parametrize(
    "options", [{"dims": {"kernel": "in out", "bias": None}}, {"record_every": 2}]
)
def test_optax_maps_over_the_parameters_of_a_state(options):
    params = {"kernel": jnp.eye(4), "bias": jnp.ones(4)}
    tx = muon(0.1, **options)
    mapped = optax.tree_map_params(tx, lambda x: x + 1, tx.init(params))
    moments = [x for x in jax.tree.leaves(mapped) if x.shape in ((4, 4), (4,))]
    assert len(moments) == 3 and all(bool((x == 1).all()) for x in moments)


def test_dims_is_resolved_once_per_call():
    calls = []

    def dims(params):
        calls.append(1)
        return EQUINOX

    model = layer()
    tx = muon(0.02, dims=dims, on_nonfinite="skip", record_every=2)
    state = tx.init(model)
    assert len(calls) == 1
    jax.eval_shape(tx.update, model, state, model)
    assert len(calls) == 2
    tx = scale_by_muon(dims=lambda params: calls.append(1), on_nonfinite="skip")
    params = {"w": jnp.eye(3)}
    jax.eval_shape(tx.update, params, tx.init(params), params)
    assert len(calls) == 4
