"""`compat.muon` in place of `optax.contrib.muon`: its tests, numbers, labels and signature."""

import inspect
import unittest
from functools import cache

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from optax.contrib import _muon, _muon_test

from muon_optax import compat

PARAMS = {  # of one short side: one batch of Gram matrices is compiled
    "wide": (6, 9),
    "tall": (9, 6),
    "stack": (3, 6, 7),
    "conv": (2, 2, 3, 6),
    "bias": (5,),
}
DIMS = {
    "wide": optax.contrib.MuonDimensionNumbers(0, 1),
    "tall": optax.contrib.MuonDimensionNumbers(0, 1),
    "stack": optax.contrib.MuonDimensionNumbers(1, 2),
    "conv": optax.contrib.MuonDimensionNumbers((0, 1, 2), (3,)),
    "bias": None,
}
# Optax's dual norm is one for a whole leaf, ours for each matrix: stacks differ.
ADAPTIVE_DIMS = DIMS | {"stack": None}

RANK_ONE = jnp.outer(jnp.array([1.0, -2.0, 3.0]), jnp.array([1.0, 4.0, -2.0, 1.0]))


def not_tall(params):
    return jax.tree.map_with_path(lambda path, _: path[0].key != "tall", params)


SETTINGS = {
    "defaults": {},
    "decay and mask": {
        "weight_decay": 1.0,
        "weight_decay_mask": not_tall,
    },
    "no nesterov": {"nesterov": False},
    "dion": {"ns_coeffs": "dion"},
    "three coefficients": {"ns_coeffs": (2.0, -1.5, 0.5), "ns_steps": 7},
    "rows": {"ns_coeffs": ((4.0, -6.0, 2.5), (2.0, -1.5, 0.5)), "ns_steps": 2},
    "consistent rms": {"consistent_rms": 0.3},
    "spectral": {"preconditioning": "spectral"},
    "aol": {"preconditioning": "aol", "ns_coeffs": "dion"},
    "schatten": {"preconditioning": "schatten"},
    "large eps": {"eps": 1e-2},
    "adaptive": {"adaptive": True, "muon_weight_dimension_numbers": ADAPTIVE_DIMS},
    "adam": {
        "adam_b1": 0.8,
        "adam_b2": 0.99,
        "adam_eps_root": 1e-4,
        "adam_weight_decay": 1.0,
        "adam_learning_rate": 0.05,
    },
    "schedules": {
        "learning_rate": optax.linear_schedule(0.05, 0.01, 10),
        "adam_learning_rate": optax.linear_schedule(0.01, 0.05, 10),
    },
    "rank two": {"muon_weight_dimension_numbers": None},
}


def ten_steps(tx, dtype=jnp.float32):
    """The parameters after each of ten steps on random gradients."""
    rng = np.random.default_rng(0)
    draw = lambda: {n: jnp.asarray(rng.standard_normal(s), dtype) for n, s in PARAMS.items()}
    params, update = draw(), jax.jit(tx.update)
    state, trajectory = tx.init(params), []
    for _ in range(10):
        updates, state = update(draw(), state, params)
        params = optax.apply_updates(params, updates)
        trajectory.append(params)
    return trajectory, state


def without(setting):
    """The ten steps of who forgets a setting; after most of them, the same ones."""
    if not SETTINGS[setting]:
        return plain(dims=True, weight_decay=0.5)
    forgotten = "muon_weight_dimension_numbers" in SETTINGS[setting]
    return plain(dims=not forgotten or setting == "rank two")


@cache
def plain(dims, weight_decay=0.0):
    dims = DIMS if dims else None
    tx = compat.muon(0.02, weight_decay=weight_decay, muon_weight_dimension_numbers=dims)
    return ten_steps(tx)[0]


@pytest.mark.slow
@pytest.mark.parametrize("setting", SETTINGS)
def test_ten_steps_equal_optax_contrib(setting):
    settings = {"learning_rate": 0.02, "muon_weight_dimension_numbers": DIMS}
    settings |= SETTINGS[setting]
    ours, _ = ten_steps(compat.muon(**settings))
    theirs, _ = ten_steps(optax.contrib.muon(**settings))
    # With a dual norm steps are some six times as long, and so are errors.
    atol = 6e-6 if setting == "adaptive" else 1e-6
    for found, expected in zip(ours, theirs):
        for name in PARAMS:
            np.testing.assert_allclose(found[name], expected[name], atol=atol, err_msg=name)
    wrong = without(setting)
    assert max(np.abs(wrong[-1][n] - ours[-1][n]).max() for n in PARAMS) > 1e-4


def test_coefficients_that_turn_signs_are_optaxs_to_the_sign_and_announced():
    """The first published list for AOL, on rank one: the update climbs."""
    rows = ((4.0098, -7.0585, 2.4635), (3.4585, -5.5479, 2.5959))
    settings = {"ns_coeffs": rows, "ns_steps": 2, "preconditioning": "aol"}
    with pytest.warns(
        UserWarning, match=r"stage 1 makes singular values in \[0\.88369"
    ) as said:
        ours = compat.muon(0.02, **settings)
        updates = ours.update(RANK_ONE, ours.init(RANK_ONE), RANK_ONE)[0]
    assert [warning.filename for warning in said] == [__file__]
    theirs = optax.contrib.muon(0.02, **settings)
    expected = theirs.update(RANK_ONE, theirs.init(RANK_ONE), RANK_ONE)[0]
    np.testing.assert_allclose(updates, expected, atol=1e-7)
    assert jnp.vdot(updates, RANK_ONE) > 0


WITHOUT_A_MATRIX = {
    "a vector": (jnp.array([1.0, -2.0]), None),
    "a stack in a list": ([jnp.ones((2, 3, 2))], None),
    "a tuple, a scalar, a None": ((jnp.ones(3), {"t": jnp.ones(())}, None), None),
    "specs of None": ({"w": jnp.ones((2, 3))}, {"w": None}),
    "one None for all": (
        {"a": {"w": jnp.ones((2, 3)), "b": jnp.ones(3)}},
        lambda p: {"a": None},
    ),
}


@pytest.mark.parametrize("case", WITHOUT_A_MATRIX)
def test_a_tree_without_a_matrix_is_trained_by_adam(case):
    params, dims = WITHOUT_A_MATRIX[case]
    found = []
    for module in (compat, optax.contrib):
        tx = module.muon(0.1, adam_weight_decay=0.5, muon_weight_dimension_numbers=dims)
        state, stepped = tx.init(params), params
        for _ in range(3):
            updates, state = tx.update(stepped, state, stepped)
            stepped = optax.apply_updates(stepped, updates)
        found.append(stepped)
    assert jax.tree.structure(found[0]) == jax.tree.structure(params)
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, atol=1e-6), *found)


@pytest.mark.slow
def test_ten_steps_equal_optax_contrib_in_float64(x64):
    settings = {
        "learning_rate": 0.02,
        "weight_decay": 1.0,
        "muon_weight_dimension_numbers": DIMS,
    }
    ours, _ = ten_steps(compat.muon(**settings), jnp.float64)
    theirs, _ = ten_steps(optax.contrib.muon(**settings), jnp.float64)
    for found, expected in zip(ours, theirs):
        for name in PARAMS:
            np.testing.assert_allclose(found[name], expected[name], atol=1e-13)


def test_the_state_has_optaxs_order_without_its_coefficients():
    _, ours = ten_steps(compat.muon(0.02))
    _, theirs = ten_steps(optax.contrib.muon(0.02))
    assert ours.inner_states.keys() == theirs.inner_states.keys() == {"muon", "adam"}
    for label, size in (("muon", 4), ("adam", 3)):
        chains = [s.inner_states[label].inner_state for s in (ours, theirs)]
        assert [len(chain) for chain in chains] == [size, size]
        (first, *rest), (their_first, *their_rest) = chains
        count = 2 if label == "muon" else 3
        assert jax.tree.structure(tuple(first)[:count]) == jax.tree.structure(
            tuple(their_first)[:count]
        )
        assert jax.tree.leaves(rest) == jax.tree.leaves(their_rest)


@pytest.mark.parametrize("name", ["muon", "scale_by_muon", "scale_by_shape"])
def test_signatures_are_optaxs(name):
    ours, theirs = (inspect.signature(getattr(m, name)) for m in (compat, _muon))
    assert [(p.name, p.kind, p.default) for p in ours.parameters.values()] == [
        (p.name, p.kind, p.default) for p in theirs.parameters.values()
    ]
    shown = [
        [f"{p.name}={p.default!r}" for p in signature.parameters.values()]
        for signature in (ours, theirs)
    ]
    assert shown[0] == shown[1]  # as help() shows them


def optax_tests():
    """Optax's own tests of `muon`; the others test functions that we do not have."""
    suite = unittest.defaultTestLoader.loadTestsFromModule(_muon_test)
    tests = {test.id().rpartition(".")[2]: test for group in suite for test in group}
    inside = ("test_reshape_inverse", "test_newton_schulz", "test_orthogonality_")
    return {name: test for name, test in tests.items() if not name.startswith(inside)}


@pytest.mark.parametrize("name", optax_tests())
def test_optaxs_own_tests_pass(name, monkeypatch):
    made = []
    monkeypatch.setattr(_muon, "muon", lambda *a, **k: made.append(k) or compat.muon(*a, **k))
    result = unittest.TestResult()
    optax_tests()[name].run(result)
    assert result.wasSuccessful(), result.failures + result.errors
    assert made


def test_the_parts_chain_as_optaxs_do():
    g = jnp.asarray(np.random.default_rng(0).standard_normal((4, 6)), jnp.float32)
    for rms in (0.3,):
        updates = []
        for module in (compat, _muon):
            dims = optax.contrib.MuonDimensionNumbers()
            shape = module.scale_by_shape(dims, rms)
            tx = optax.chain(module.scale_by_muon(weight_dimension_numbers=dims), shape)
            updates.append(tx.update(g, tx.init(g))[0])
        np.testing.assert_allclose(*updates, atol=2e-6)


@pytest.mark.parametrize("settings", [{}, {"weight_decay": 1.0, "adam_b1": 0.8}], ids=str)
def test_injected_hyperparameters_are_scheduled_as_optaxs_are(settings):
    """Without static arguments, as a script of Optax's has it; `ten_steps` compiles a step."""
    rate = optax.linear_schedule(0.02, 0.0, 10)
    found, expected = (
        ten_steps(optax.inject_hyperparams(make)(learning_rate=rate, **settings))[0]
        for make in (compat.muon, optax.contrib.muon)
    )
    for name in PARAMS:
        np.testing.assert_allclose(found[-1][name], expected[-1][name], atol=3e-6)


@pytest.mark.parametrize("setting", [{"ns_steps": 6}, {"eps": 1e-2}], ids=str)
def test_what_is_no_hyperparameter_can_be_static(setting):
    static = ("ns_coeffs", "ns_steps", "eps")
    tx = optax.inject_hyperparams(compat.muon, static_args=static)(0.02, **setting)
    (found, _), (expected, _) = map(ten_steps, (tx, compat.muon(0.02, **setting)))
    for name in PARAMS:
        np.testing.assert_allclose(found[-1][name], expected[-1][name], atol=3e-6)


def test_hyperparameters_can_be_injected():
    static = ("ns_coeffs", "ns_steps", "eps", "muon_weight_dimension_numbers")
    tx = optax.inject_hyperparams(compat.muon, static_args=static)(
        learning_rate=0.02, beta=0.9, weight_decay=1.0
    )
    found, _ = ten_steps(tx)
    expected, _ = ten_steps(compat.muon(0.02, beta=0.9, weight_decay=1.0))
    for name in PARAMS:  # Adam's β₂^t of a traced β₂ is a float32
        np.testing.assert_allclose(found[-1][name], expected[-1][name], atol=3e-6)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: compat.muon(0.1, ns_coeffs="dijon"), "ns_coeffs='dijon'; use one of"),
        (lambda: compat.muon(0.1, ns_coeffs=(1.0, 2.0)), r"`ns_coeffs` has shape \(2,\)"),
        (lambda: compat.muon(0.1, preconditioning="nuclear"), "preconditioning='nuclear'; use"),
        (lambda: compat.muon(0.1, consistent_rms=-1.0), "consistent_rms=-1.0; use None or"),
        (lambda: compat.muon(0.1, ns_steps=0), "steps=0; use a whole number"),
        (
            lambda: ten_steps(optax.inject_hyperparams(compat.muon)(0.1, ns_steps=6)),
            'cannot be traced; under .*, pass static_args=\\("ns_coeffs", "ns_steps", "eps"\\)',
        ),
    ],
)
def test_bad_arguments_say_what_to_write(make, message):
    with pytest.raises(ValueError, match=message):
        make()
