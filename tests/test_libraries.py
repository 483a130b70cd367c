"""Models of four libraries: planned, trained as their users train, saved, and trained on."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from muon_optax import EQUINOX, FLAX, LAYOUTS, compat, muon, plan

SETTINGS = {"learning_rate": 0.05, "adam_learning_rate": 0.02, "mu_dtype": "bfloat16"}
TOKENS = np.random.default_rng(0).integers(0, 8, (4, 6))
LABELS = (TOKENS + 1) % 8


def cross_entropy(logits):
    return optax.softmax_cross_entropy_with_integer_labels(logits, LABELS).mean()


def check_plan(params, dims, matrices):
    """Whether Muon trains these leaves and no others, and nothing looks wrong."""
    table = plan(params, dims, strict=True)
    assert {leaf.path for leaf in table.leaves if leaf.optimizer == "Muon"} == matrices


def train(step, carry, steps=20):
    """Steps from `*carry` to `(*carry, loss)`, after which the loss has halved."""
    losses = []
    for _ in range(steps):
        *carry, loss = step(*carry)
        losses.append(float(loss))
    assert losses[-1] < losses[0] / 2, losses
    return carry


def check_same_step(step, carry, restored):
    """Whether both go on alike, to the bit."""
    assert jax.tree.structure(carry) == jax.tree.structure(restored)
    found, expected = step(*restored), step(*carry)
    jax.tree.map(np.testing.assert_array_equal, found, expected)


def through_npz(path, state):
    """A state as it comes back from a file of NumPy's, and the shapes it is restored by."""
    saved = compat.to_checkpoint(state)
    np.savez(path, version=saved["version"], **saved["leaves"])
    with np.load(path) as file:
        found = dict(file)
    shapes = jax.eval_shape(lambda: state)
    return compat.from_checkpoint({"version": found.pop("version"), "leaves": found}, shapes)


def test_an_equinox_model_trains_and_is_serialised(tmp_path):
    eqx = pytest.importorskip("equinox")

    class Model(eqx.Module):
        embedding: eqx.nn.Embedding
        attention: eqx.nn.MultiheadAttention
        mlp: eqx.nn.MLP
        head: eqx.nn.Linear

        def __init__(self, key):
            self.embedding = eqx.nn.Embedding(8, 8, key=key)
            self.attention = eqx.nn.MultiheadAttention(2, 8, key=key)
            self.mlp = eqx.nn.MLP(8, 8, 16, 1, key=key)
            self.head = eqx.nn.Linear(8, 8, key=key)

        def __call__(self, tokens):
            x = jax.vmap(self.embedding)(tokens)
            x = x + self.attention(x, x, x)
            return jax.vmap(self.head)(x + jax.vmap(self.mlp)(x))

    tx = muon(**SETTINGS, dims=EQUINOX)

    @eqx.filter_jit
    def step(model, state):
        loss = lambda model: cross_entropy(jax.vmap(model)(TOKENS))
        value, grads = eqx.filter_value_and_grad(loss)(model)
        params = eqx.filter(model, eqx.is_inexact_array)
        updates, state = tx.update(grads, state, params)
        return eqx.apply_updates(model, updates), state, value

    def begin(key):
        model = Model(key)
        return model, tx.init(eqx.filter(model, eqx.is_inexact_array))

    model, state = begin(jax.random.key(0))
    matrices = {f"attention/{name}_proj/weight" for name in ("query", "key", "value", "output")}
    matrices |= {"mlp/layers/0/weight", "mlp/layers/1/weight"}
    check_plan(eqx.filter(model, eqx.is_inexact_array), EQUINOX, matrices)
    carry = tuple(train(step, (model, state)))
    eqx.tree_serialise_leaves(tmp_path / "job.eqx", carry)
    like = eqx.filter_eval_shape(begin, jax.random.key(0))
    restored = eqx.tree_deserialise_leaves(tmp_path / "job.eqx", like)
    check_same_step(lambda *carry: eqx.filter(step(*carry), eqx.is_array), carry, restored)


def test_a_haiku_model_trains_and_is_saved_by_numpy(tmp_path):
    hk = pytest.importorskip("haiku")

    @hk.without_apply_rng
    @hk.transform
    def model(tokens):
        x = hk.Embed(8, 8)(tokens)
        init = hk.initializers.VarianceScaling(1.0)
        x = x + hk.MultiHeadAttention(2, 4, w_init=init, model_size=8)(x, x, x)
        x = hk.LayerNorm(-1, True, True)(x + hk.nets.MLP([16, 8])(x))
        return hk.Linear(8, name="head")(x)

    tx = muon(**SETTINGS, dims=LAYOUTS["haiku"])

    @jax.jit
    def step(params, state):
        loss = lambda params: cross_entropy(model.apply(params, TOKENS))
        value, grads = jax.value_and_grad(loss)(params)
        updates, state = tx.update(grads, state, params)
        return optax.apply_updates(params, updates), state, value

    params = jax.jit(model.init)(jax.random.key(0), TOKENS)
    names = ("query", "key", "value", "linear")
    matrices = {f"multi_head_attention/{name}/w" for name in names}
    check_plan(params, LAYOUTS["haiku"], matrices | {"mlp/~/linear_0/w", "mlp/~/linear_1/w"})
    params, state = train(step, (params, tx.init(params)))
    restored = through_npz(tmp_path / "state.npz", state)
    check_same_step(step, (params, state), (params, restored))


def test_a_keras_model_trains_and_is_saved_by_numpy(tmp_path):
    keras = pytest.importorskip("keras")
    assert keras.backend.backend() == "jax"
    keras.utils.set_random_seed(0)
    tokens = keras.Input((6,), dtype="int32")
    x = keras.layers.Embedding(8, 8, name="embedding")(tokens)
    x = x + keras.layers.MultiHeadAttention(2, 4, name="attention")(x, x)
    x = x + keras.layers.Dense(8, activation="relu", name="dense")(x)
    model = keras.Model(tokens, keras.layers.Dense(8, name="head")(x))
    variables = model.trainable_variables
    tx = muon(**SETTINGS, dims=LAYOUTS["keras"])

    @jax.jit
    def step(params, state):
        def loss(params):
            values = [params[variable.path] for variable in variables]
            return cross_entropy(model.stateless_call(values, [], TOKENS)[0])

        value, grads = jax.value_and_grad(loss)(params)
        updates, state = tx.update(grads, state, params)
        return optax.apply_updates(params, updates), state, value

    params = {variable.path: variable.value for variable in variables}
    names = ("query", "key", "value", "attention_output")
    matrices = {f"attention/{name}/kernel" for name in names}
    check_plan(params, LAYOUTS["keras"], matrices | {"dense/kernel"})
    params, state = train(step, (params, tx.init(params)))
    restored = through_npz(tmp_path / "state.npz", state)
    check_same_step(step, (params, state), (params, restored))
    for variable in variables:
        variable.assign(params[variable.path])
    np.testing.assert_allclose(cross_entropy(model(TOKENS)), step(params, state)[2], rtol=1e-5)


def test_an_nnx_model_trains_and_is_saved_by_orbax(tmp_path):
    nnx = pytest.importorskip("flax.nnx")
    ocp = pytest.importorskip("orbax.checkpoint")

    class Model(nnx.Module):
        def __init__(self, rngs):
            self.embed = nnx.Embed(8, 8, rngs=rngs)
            self.attention = nnx.MultiHeadAttention(2, 8, decode=False, rngs=rngs)
            self.dense = nnx.Linear(8, 8, rngs=rngs)
            self.head = nnx.Linear(8, 8, rngs=rngs)

        def __call__(self, tokens):
            x = self.embed(tokens)
            x = x + self.attention(x)
            return self.head(x + nnx.relu(self.dense(x)))

    def begin():
        model = Model(nnx.Rngs(0))
        return model, nnx.Optimizer(model, muon(**SETTINGS), wrt=nnx.Param)

    @nnx.jit
    def train_step(model, optimizer):
        value, grads = nnx.value_and_grad(lambda model: cross_entropy(model(TOKENS)))(model)
        optimizer.update(model, grads)
        return value

    def step(*job):
        return (*job, train_step(*job))

    model, optimizer = begin()
    matrices = {f"attention/{name}/kernel" for name in ("query", "key", "value", "out")}
    check_plan(nnx.state(model, nnx.Param), FLAX, matrices | {"dense/kernel"})
    train(step, (model, optimizer))
    restored = nnx.eval_shape(begin)
    with ocp.StandardCheckpointer() as checkpointer:
        checkpointer.save(tmp_path / "job", nnx.state((model, optimizer)))
        checkpointer.wait_until_finished()
        state = checkpointer.restore(tmp_path / "job", nnx.state(restored))
    nnx.update(restored, state)
    train_step(model, optimizer), train_step(*restored)
    found, expected = nnx.state(restored), nnx.state((model, optimizer))
    jax.tree.map(np.testing.assert_array_equal, found, expected)
    assert jnp.isfinite(optimizer.step[...])
