"""Measures recorded inside a training run: when, what of, and at what price."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from flax import nnx
from reference import numpy_measures

from muon_optax import (
    METHODS,
    SVD,
    MuonDimensionNumbers,
    NewtonSchulz,
    muon,
    scale_by_muon,
    theory,
)
from muon_optax.diagnostics import MEASURES, latest, momentum, record_updates, stable_rank
from muon_optax.transforms._momentum import accumulate_momentum

PARAMS = {"wide": jnp.zeros((4, 6)), "stack": jnp.zeros((3, 5, 5)), "bias": jnp.zeros(6)}
MATRICES = {name: PARAMS[name] for name in ("wide", "stack")}
DIMS = {"wide": MuonDimensionNumbers(0, 1), "stack": MuonDimensionNumbers(1, 2)}


def record_muon(every, method=None, beta=0.95, dims=DIMS, measures=tuple(MEASURES), **options):
    """`scale_by_muon`, recorded."""
    momentum = accumulate_momentum(beta, **options)
    method = method or NewtonSchulz()
    return record_updates(every, momentum, method, measures=measures, dims=dims)


def gradients(steps, tree):
    keys = jax.random.split(jax.random.key(0), len(jax.tree.leaves(tree)))
    make = [
        jax.random.normal(k, (steps, *x.shape)) for k, x in zip(keys, jax.tree.leaves(tree))
    ]
    return jax.tree.structure(tree).unflatten(make)


@pytest.mark.slow
def test_a_record_equals_what_the_definition_says_of_that_step():
    options = {"beta": 0.9, "dims": DIMS}
    tx = record_muon(3, SVD(), beta=0.9)
    plain, blend = (scale_by_muon(m, **options) for m in (SVD(), _Unchanged()))
    state, plain_state, blend_state = (t.init(MATRICES) for t in (tx, plain, blend))
    step_of, step_plain, step_blend = (jax.jit(t.update) for t in (tx, plain, blend))
    grads = gradients(5, MATRICES)
    for step in range(5):
        g = jax.tree.map(lambda x, step=step: x[step], grads)
        updates, state = step_of(g, state)
        expected, plain_state = step_plain(g, plain_state)
        m, blend_state = step_blend(g, blend_state)
        jax.tree.map(np.testing.assert_array_equal, updates, expected)
        if step % 3 == 0:
            seen = jax.tree.map(np.asarray, (g, m, updates))
        recorded_at, measured = latest(state)
        assert recorded_at == step // 3 * 3
        for leaf in MATRICES:
            matrices = [x[leaf].reshape(-1, *x[leaf].shape[-2:]) for x in seen]
            for i, of_one in enumerate(zip(*matrices)):
                for name, value in numpy_measures(*of_one).items():
                    got = np.atleast_1d(measured[leaf][name])[i]
                    assert got == pytest.approx(value, rel=1e-4, abs=1e-5), (name, leaf)


class _Unchanged:
    def polar(self, x):
        return x


@pytest.mark.slow
def test_recording_runs_in_a_jitted_scan_with_one_structure():
    tx = muon(0.02, record_every=4, adam_learning_rate=1e-3, dims=DIMS | {"bias": None})
    plain = muon(0.02, adam_learning_rate=1e-3, dims=DIMS | {"bias": None})

    def train(tx):
        def step(carry, g):
            params, state = carry
            updates, state = tx.update(g, state, params)
            return (optax.apply_updates(params, updates), state), None

        start = PARAMS, tx.init(PARAMS)
        return jax.jit(lambda gs: jax.lax.scan(step, start, gs)[0])(gradients(10, PARAMS))

    (params, state), (expected, _) = train(tx), train(plain)
    jax.tree.map(np.testing.assert_array_equal, params, expected)
    step, measured = latest(state)
    assert step == 8
    assert {leaf: set(by_name) for leaf, by_name in measured.items()} == {
        "wide": set(MEASURES),
        "stack": set(MEASURES),
    }
    assert measured["stack"]["alignment"].shape == (3,)
    assert measured["wide"]["alignment"] > theory.alignment_bound(METHODS["jordan"].schedule, 4)


def test_between_records_nothing_is_measured():
    """Every SVD lies in a branch of the conditional; without it there is none."""
    tx = record_muon(5)
    jaxpr = jax.make_jaxpr(tx.update)(MATRICES, tx.init(MATRICES)).jaxpr
    (call,) = (e for e in jaxpr.eqns if "svd" in str(e))
    (cond,) = (e for e in call.params["jaxpr"].jaxpr.eqns if "svd" in str(e))
    taken, not_taken = sorted(map(str, cond.params["branches"]), key=len, reverse=True)
    assert "svd" in taken and "svd" not in not_taken


def test_before_the_first_record_there_is_none():
    with jax.debug_nans(True):
        assert latest(record_muon(5).init(MATRICES)) == (-1, {})


def test_what_was_read_stays_when_the_state_goes_on():
    """Copies, also where the state is donated or, in nnx, changed in place."""
    tx = record_muon(1, measures=("update_rms",))
    update = jax.jit(tx.update, donate_argnums=1)
    state, history = tx.init(MATRICES), []
    for scale in (0.0, 1.0):
        grads = jax.tree.map(lambda x, scale=scale: x + scale, MATRICES)
        _, state = update(grads, state)
        history.append(latest(state))
    (first, before), (second, after) = history
    assert (first, second) == (0, 1)
    assert before["wide"]["update_rms"] == 0 < after["wide"]["update_rms"]
    assert not before["stack"]["update_rms"].any() and after["stack"]["update_rms"].all()


@pytest.mark.slow
def test_a_fused_leaf_is_recorded_matrix_by_matrix_with_a_heavy_ball():
    """One number for each of three layers' query, key and value; the updates as without."""
    params = {"qkv": jax.random.normal(jax.random.key(0), (3, 4, 8))}
    options = {"dims": "layers in out[q=4 k=2 v=2]", "heavy_ball": True, "beta": 0.5}
    recorded, plain = record_muon(1, SVD(), **options), scale_by_muon(SVD(), **options)
    states = [tx.init(params) for tx in (recorded, plain)]
    assert states[0].measured["qkv"]["momentum_stable_rank"].shape == (9,)
    updates = [jax.jit(tx.update) for tx in (recorded, plain)]
    for _ in range(2):
        (found, states[0]), (expected, states[1]) = (
            update(params, state) for update, state in zip(updates, states)
        )
        np.testing.assert_array_equal(found["qkv"], expected["qkv"])
    np.testing.assert_array_equal(states[0].inner.mu["qkv"], 1.5 * params["qkv"])
    _, measured = latest(states[0])
    ranks = [jax.jit(stable_rank)(part) for part in jnp.split(params["qkv"], [4, 6], axis=2)]
    np.testing.assert_allclose(measured["qkv"]["alignment"], np.ones(9), atol=1e-5)
    np.testing.assert_allclose(
        measured["qkv"]["momentum_stable_rank"], jnp.concatenate(ranks), rtol=1e-4
    )


def test_recording_goes_through_inject_hyperparams():
    injected = optax.inject_hyperparams(muon, static_args=("record_every", "dims"))
    tx = injected(0.1, beta=0.9, record_every=2, dims=DIMS)
    _, state = jax.jit(tx.update)(MATRICES, tx.init(MATRICES), MATRICES)
    assert latest(state)[0] == 0 and float(state.hyperparams["beta"]) == pytest.approx(0.9)


@pytest.mark.slow
def test_recording_goes_through_nnx_and_multi_steps():
    model = nnx.Linear(4, 6, rngs=nnx.Rngs(0))
    tx = optax.MultiSteps(muon(0.1, adam_learning_rate=0.1, record_every=1), 2)
    optimizer = nnx.Optimizer(model, tx, wrt=nnx.Param)
    loss = nnx.grad(lambda model: (model(jnp.ones((3, 4))) ** 2).sum())
    for _ in range(2):
        optimizer.update(model, loss(model))
    step, measured = latest(optimizer.opt_state)
    assert step == 0 and isinstance(measured["kernel"]["alignment"], float)
    assert [(path, mu.shape) for path, mu in momentum(optimizer.opt_state).items()] == [
        ("kernel", (4, 6))
    ]


def test_only_the_measures_asked_for_are_kept():
    tx = record_muon(1, measures=("update_rms",))
    state = jax.eval_shape(lambda: tx.update(MATRICES, tx.init(MATRICES))[1])
    assert [list(of_leaf) for of_leaf in state.measured.values()] == [["update_rms"]] * 2


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: record_muon(0), r"every=0; use a whole number in \[1, 2³¹\)$"),
        (lambda: record_muon(2.5), "every=2.5"),
        (lambda: record_muon(2**31), "every=2147483648"),
        (
            lambda: muon(0.1, record_every=jnp.asarray(3)),
            'record_every=Array.*pass static_args="record_every"',
        ),
        (
            lambda: record_muon(1).update(MATRICES, scale_by_muon(dims=DIMS).init(MATRICES)),
            "made without recording",
        ),
        (lambda: record_muon(1, measures=("rank",)), "measure='rank'; use one of"),
        (lambda: record_muon(1, measures="rank"), "measure='rank'; use one of"),
        (lambda: record_muon(1, beta=2.0), "beta=2.0"),
        (lambda: latest(optax.sgd(0.1).init(PARAMS)), "this state has 0 records instead of 1"),
        (
            lambda: momentum(optax.lion(0.1).init(PARAMS)),
            "this state has 0 momenta of Muon instead of 1",
        ),
        (
            lambda: momentum([scale_by_muon(dims=DIMS).init(MATRICES)] * 2),
            "2 momenta .* the part that belongs to one",
        ),
    ],
)
def test_a_wrong_argument_is_refused(call, message):
    with pytest.raises(ValueError, match=message):
        call()
