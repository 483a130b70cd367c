"""Gradients match the parameters in leaves, shapes and dtypes; None stands for no gradient."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from muon_optax import muon
from muon_optax._leaves import LeafError
from muon_optax.compat import muon as contrib_muon

# One path is the end of another.
PARAMS = {
    "kernel": jnp.eye(3),
    "block": {"kernel": jnp.eye(3), "bias": jnp.ones(3)},
    "bias": jnp.ones(3),
}
TX = muon(0.1, adam_learning_rate=0.1)


def of_parameter(state, *path):
    """What of a state belongs to a parameter: the leaves under its whole path."""
    names = {"kernel", "bias", "block"}
    found = []
    for keys, leaf in jax.tree.leaves_with_path(state):
        plain = [getattr(key, "key", None) for key in keys]
        if tuple(key for key in plain if key in names) == path:
            found.append(leaf)
    return found


@pytest.mark.parametrize("path", [("bias",), ("block", "kernel")])
def test_a_parameter_without_a_gradient_stays_with_all_its_state(path):
    _, before = jax.jit(TX.update)(PARAMS, TX.init(PARAMS), PARAMS)
    grads = jax.tree.map(lambda p: p + 1, PARAMS)
    branch = grads[path[0]] if len(path) == 2 else grads
    branch[path[-1]] = None
    updates, after = jax.jit(TX.update)(grads, before, PARAMS)
    assert jax.tree.structure(updates) == jax.tree.structure(PARAMS)
    for leaf_path, update in jax.tree.leaves_with_path(updates):
        absent = tuple(key.key for key in leaf_path) == path
        assert bool(update.any()) != absent
    for other in (("kernel",), ("bias",), ("block", "kernel"), ("block", "bias")):
        old, new = of_parameter(before, *other), of_parameter(after, *other)
        assert len(old) == len(new) > 0
        moved = any((a != b).any() for a, b in zip(old, new))
        assert moved != (other == path)


def test_missing_and_unknown_leaves_are_listed_by_every_muon():
    for tx in (TX, contrib_muon(0.1)):
        state = tx.init(PARAMS)
        less = {"kernel": PARAMS["kernel"], "bias": PARAMS["bias"], "odd": jnp.ones(2)}
        expected = r"missing: \['block/bias', 'block/kernel'\], 2 in all; unknown: \['odd'\]"
        with pytest.raises(ValueError, match=expected):
            tx.update(less, state, PARAMS)
        wrong = {**PARAMS, "bias": jnp.ones(1)}
        with pytest.raises(ValueError, match=r"leaf 'bias' \(shape \(1,\).*shape \(3,\)"):
            tx.update(wrong, state, PARAMS)


MIXED = pytest.mark.parametrize(
    ("own", "given"),
    [("float32", "bfloat16"), ("bfloat16", "float32"), ("float16", "float32")],
)


@MIXED
def test_a_fallback_sees_its_parameters_dtype(own, given):
    seen = []

    def update(updates, state, params=None):
        seen.append((updates["bias"].dtype, params and params["bias"].dtype))
        return updates, state

    spy = optax.GradientTransformation(lambda params: params, update)
    tx = muon(0.1, fallback=spy)
    params = jax.tree.map(lambda p: p.astype(own), PARAMS)
    grads = jax.tree.map(lambda p: p.astype(given), PARAMS)
    expected = "float32" if own == "float16" else own
    state = tx.init(params)
    assert state.inner_states["fallback"].inner_state["bias"].dtype == expected
    updates, after = jax.eval_shape(tx.update, grads, state, params)
    assert seen == [(expected, expected)] and updates["bias"].dtype == own
    assert jax.tree.map(lambda x: x.dtype, after) == jax.tree.map(lambda x: x.dtype, state)


def test_without_parameters_updates_have_the_gradients_dtype():
    grads = jax.tree.map(lambda p: p.astype("float16"), PARAMS)
    updates, _ = TX.update(grads, TX.init(grads))
    assert {x.dtype for x in jax.tree.leaves(updates)} == {jnp.dtype("float16")}


@MIXED
def test_skipping_works_with_gradients_of_another_dtype(own, given):
    tx = muon(0.1, adam_learning_rate=0.1, on_nonfinite="skip")
    update = jax.jit(tx.update)
    params = jax.tree.map(lambda p: p.astype(own), PARAMS)
    grads = jax.tree.map(lambda p: p.astype(given), PARAMS)
    for bias, moves in ((grads["bias"], True), (grads["bias"].at[0].set(jnp.nan), False)):
        updates, _ = update({**grads, "bias": bias}, tx.init(params), params)
        assert updates["bias"].dtype == own and bool(updates["bias"].any()) == moves


def test_finite_gradients_stay_finite_in_a_narrower_dtype():
    params = jax.tree.map(lambda p: p.astype("bfloat16"), PARAMS)
    grads = jax.tree.map(lambda p: jnp.full_like(p, 3.4028e38), PARAMS)
    updates, _ = TX.update(grads, TX.init(params), params)
    assert all(jnp.isfinite(u).all() for u in jax.tree.leaves(updates))


@pytest.mark.parametrize(
    ("fallback", "shapes"),
    [
        (optax.adafactor(0.1, min_dim_size_to_factor=2), {(4,), (6,)}),
        (optax.novograd(0.1), {(), (4, 6)}),
    ],
    ids=["adafactor", "novograd"],
)
def test_a_fallback_state_of_another_shape_stays_too(fallback, shapes):
    """Rows and columns, or one number: with the parameter's path."""
    tx = muon(0.1, fallback=fallback)
    params = {"embedding": jnp.ones((4, 6)), "kernel": jnp.eye(3)}
    _, before = tx.update(params, tx.init(params), params)
    _, after = tx.update({**params, "embedding": None}, before, params)
    seen = set()
    for (path, old), new in zip(jax.tree.leaves_with_path(before), jax.tree.leaves(after)):
        if getattr(path[-1], "key", None) == "embedding":
            np.testing.assert_array_equal(new, old)
            seen.add(old.shape)
    assert shapes <= seen


def test_a_bare_array_and_a_number_that_a_parameter_shares_its_name_with():
    x, tx = jnp.eye(3), muon(0.1, dims="in out")
    _, before = tx.update(x, tx.init(x), x)
    update, after = tx.update(None, before, x)
    assert not update.any()
    assert all((a == b).all() for a, b in zip(*map(jax.tree.leaves, (before, after))) if a.ndim)
    schedule = lambda step: 0.9 + 0.01 * step
    injected = optax.inject_hyperparams(optax.adamw)(learning_rate=0.1, b1=schedule)
    tx, params = muon(0.1, fallback=injected), {"kernel": x, "b1": jnp.ones(3)}
    _, state = tx.update({**params, "b1": None}, tx.init(params), params)
    _, state = tx.update({**params, "b1": None}, state, params)
    rate = state.inner_states["fallback"].inner_state.hyperparams["b1"]
    assert float(rate) == pytest.approx(0.91)


def test_a_complex_gradient_of_a_real_parameter_is_refused():
    """Else its imaginary part would be lost."""
    bias = 1j * PARAMS["bias"]
    with pytest.raises(
        LeafError, match=r"leaf 'bias'.*complex, but the parameter is real; pass the real"
    ):
        TX.update({**PARAMS, "bias": bias}, TX.init(PARAMS), PARAMS)


def test_adam_moves_float16_as_it_does_float32():
    """Zeros, whose ε float16 has not, and what it cannot square, among them."""
    grads = {"kernel": jnp.eye(3), "bias": jnp.asarray([0.0, 3e-5, 6e4])}
    params = jax.tree.map(jnp.ones_like, grads)
    expected, _ = TX.update(grads, TX.init(params), params)
    half = jax.tree.map(lambda x: x.astype("float16"), (grads, params))
    found, _ = TX.update(half[0], TX.init(half[1]), half[1])
    eps = float(jnp.finfo("float16").eps)
    np.testing.assert_allclose(found["bias"], expected["bias"], rtol=2 * eps)
