"""Flax models train: nnx and linen, plain and scanned, in float32 and bfloat16."""

import flax.linen as nn
import jax
import jax.numpy as jnp
import optax
import pytest
from flax import nnx
from flax.training.train_state import TrainState
from models import LinenTransformer, NnxTransformer, linen_params

from muon_optax import muon

pytestmark = pytest.mark.slow

TOKENS = jax.random.randint(jax.random.key(0), (4, 8), 0, 50)


def cross_entropy(logits):
    """Of copying the tokens, in float32."""
    logits = logits.astype("float32")
    return optax.softmax_cross_entropy_with_integer_labels(logits, TOKENS).mean()


def train(model, optimizer):
    """The loss at each of twelve jitted steps."""

    @nnx.jit
    def step(model, optimizer):
        value, grads = nnx.value_and_grad(lambda m: cross_entropy(m(TOKENS)))(model)
        optimizer.update(model, grads)
        return value

    return [float(step(model, optimizer)) for _ in range(12)]


@pytest.mark.device
def test_an_nnx_optimizer_trains_a_transformer_in_bfloat16():
    dtype = jnp.dtype("bfloat16")
    model = NnxTransformer(nnx.Rngs(0))
    nnx.update(model, jax.tree.map(lambda x: x.astype(dtype), nnx.state(model, nnx.Param)))
    optimizer = nnx.Optimizer(model, muon(0.02, weight_decay=0.01), wrt=nnx.Param)

    losses = train(model, optimizer)
    assert losses[-1] < 0.5 * losses[0]
    assert {x.dtype for x in jax.tree.leaves(nnx.state(model, nnx.Param))} == {dtype}


def test_nnx_trains_by_a_static_tree_of_specs():
    model = NnxTransformer(nnx.Rngs(0))
    params = nnx.state(model, nnx.Param)
    dims = jax.tree.map(
        lambda x: "in out" if x.ndim == 2 and min(x.shape) > 6 else None, params
    )
    optimizer = nnx.Optimizer(model, muon(0.02, dims=nnx.to_pure_dict(dims)), wrt=nnx.Param)

    losses = train(model, optimizer)
    assert losses[-1] < 0.5 * losses[0]


@pytest.mark.device
def test_a_linen_train_state_trains_a_scanned_transformer():
    model = LinenTransformer(scanned=True)
    params = linen_params(model, TOKENS)
    state = TrainState.create(apply_fn=model.apply, params=params, tx=muon(0.02))

    @jax.jit
    def step(state):
        loss = lambda params: cross_entropy(state.apply_fn({"params": params}, TOKENS))
        value, grads = jax.value_and_grad(loss)(state.params)
        return state.apply_gradients(grads=grads), value

    losses = []
    for _ in range(12):
        state, value = step(state)
        losses.append(float(value))
    assert losses[-1] < 0.5 * losses[0]


def test_boxed_linen_parameters_stay_boxed():
    initial = nn.with_partitioning(nn.initializers.lecun_normal(), ("data", "model"))
    params = linen_params(nn.Dense(4, kernel_init=initial), jnp.ones((1, 3)))
    tx = muon(0.1)
    updates, _ = tx.update(params, tx.init(params), params)
    assert isinstance(updates["kernel"], nn.Partitioned)
    assert updates["kernel"].names == ("data", "model")
