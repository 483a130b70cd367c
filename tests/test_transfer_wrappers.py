"""States that move from inside wrappers and containers: MultiSteps, nnx, Orbax."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from flax import nnx
from jobs import begun, moments, restored

from muon_optax import (
    compat,
    muon,
    partition_matrices,
    scale_by_muon,
    scale_by_neuron_rms,
)

RATES = {"learning_rate": 0.02, "weight_decay": 0.5}


def test_states_inside_wrappers_and_normuons_are_found():
    make = lambda rate: partition_matrices(
        lambda dims: optax.chain(
            scale_by_muon(dims=dims), scale_by_neuron_rms(dims=dims), optax.scale(-rate)
        ),
        optax.adam(rate),
    )
    old = optax.MultiSteps(optax.chain(optax.clip_by_global_norm(9.0), make(0.1)), 2)
    params, state = begun(old, count=6)
    moved = compat.transfer(state, make(0.2).init(params))
    inner = state.inner_opt_state[1]
    jax.tree.map(np.testing.assert_array_equal, moved, inner)
    assert int(moments(moved, "muon").count) == 3


def test_multi_steps_keep_their_place():
    old = optax.MultiSteps(optax.adamw(0.1), 4)
    params, state = begun(old, count=6)
    moved = compat.transfer(state, optax.MultiSteps(muon(0.1), 4).init(params))
    assert (int(moved.mini_step), int(moved.gradient_step)) == (2, 1)
    jax.tree.map(np.testing.assert_array_equal, moved.acc_grads, state.acc_grads)
    assert int(moments(moved.inner_opt_state, "muon").count) == 1


def test_a_state_restored_without_a_template_is_read(tmp_path):
    params, state = begun(optax.contrib.muon(**RATES))
    raw = restored(tmp_path, state, None)
    ours = compat.muon(**RATES)
    jax.tree.map(
        np.testing.assert_array_equal,
        compat.transfer(raw, ours.init(params)),
        compat.transfer(state, ours.init(params)),
    )


def test_a_module_called_mu_is_not_taken_for_a_moment():
    params = {"kernel": jnp.eye(3), "mu": {"kernel": 2 * jnp.eye(3)}}
    make = lambda tx: optax.MultiSteps(tx, 4)
    old, new = make(optax.adamw(0.1)), make(muon(0.1))
    _, state = old.update(params, old.init(params), params)
    moved = compat.transfer(state, new.init(params))
    np.testing.assert_array_equal(
        moved.acc_grads["mu"]["kernel"], state.acc_grads["mu"]["kernel"]
    )
    adamw = optax.adamw(0.1)
    _, plain = adamw.update(params, adamw.init(params), params)
    moved = compat.transfer(plain, new.init(params))
    assert not np.any(moved.acc_grads["mu"]["kernel"])


@pytest.mark.slow
def test_an_nnx_optimizer_goes_on_with_muon():
    model = nnx.Linear(4, 6, rngs=nnx.Rngs(0))
    old = nnx.Optimizer(model, optax.adamw(1e-3), wrt=nnx.Param)
    grads = jax.tree.map(jnp.ones_like, nnx.state(model, nnx.Param))
    old.update(model, grads)
    new = nnx.Optimizer(model, muon(0.02, adam_learning_rate=1e-3), wrt=nnx.Param)
    structure = jax.tree.structure(new.opt_state)
    new.opt_state = nnx.data(compat.transfer(old.opt_state, like=new.opt_state))
    assert jax.tree.structure(new.opt_state) == structure
    assert all(np.any(x) for x in jax.tree.leaves(new.opt_state))
    new.update(model, grads)
    counts = [x for x in jax.tree.leaves(new.opt_state) if x.dtype == jnp.int32]
    assert [int(x) for x in counts] == [2, 2]
