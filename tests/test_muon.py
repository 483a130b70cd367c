"""muon(): matrices by role to Muon, the rest to a fallback with its own settings."""

import inspect

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from muon_optax import (
    FLAX,
    MuonDimensionNumbers,
    NewtonSchulz,
    muon,
    scale_by_muon,
    scale_by_shape,
)

METHOD = NewtonSchulz("taylor2", 1)
PARAMS = {
    "dense": {"kernel": jnp.full((4, 8), 2.0), "bias": jnp.full(8, 3.0)},
    "embed": {"embedding": jnp.ones((5, 3))},
}
GRADS = jax.tree.map(
    lambda p: jnp.cos(jnp.arange(p.size, dtype=p.dtype)).reshape(p.shape), PARAMS
)


def updates_of(tx, steps=3):
    state, update = tx.init(PARAMS), jax.jit(tx.update)
    for _ in range(steps):
        updates, state = update(GRADS, state, PARAMS)
    return updates


def test_muon_equals_the_chains_written_by_hand():
    by_hand = optax.partition(
        {
            "matrix": optax.chain(
                scale_by_muon(METHOD, 0.9, nesterov=False),
                scale_by_shape("adam_rms"),
                optax.add_decayed_weights(0.3),
                optax.scale_by_learning_rate(0.1),
            ),
            "rest": optax.adamw(0.01, b1=0.8, b2=0.9, eps=1e-3, weight_decay=0.2),
        },
        {"dense": {"kernel": "matrix", "bias": "rest"}, "embed": {"embedding": "rest"}},
    )
    ours = muon(
        0.1,
        METHOD,
        0.9,
        weight_decay=0.3,
        nesterov=False,
        shape_scaling="adam_rms",
        adam_learning_rate=0.01,
        adam_b1=0.8,
        adam_b2=0.9,
        adam_eps=1e-3,
        adam_weight_decay=0.2,
    )
    jax.tree.map(
        lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-6, atol=1e-7),
        updates_of(ours),
        updates_of(by_hand),
    )


def test_any_transformation_may_be_the_fallback():
    found = updates_of(muon(0.1, fallback=optax.sgd(7.0)))
    np.testing.assert_allclose(found["dense"]["bias"], -7.0 * GRADS["dense"]["bias"], rtol=1e-6)


def test_the_fallback_takes_the_learning_rate_when_it_has_none_of_its_own():
    same, own = updates_of(muon(0.1), 1), updates_of(muon(0.1, adam_learning_rate=0.02), 1)
    np.testing.assert_allclose(same["dense"]["bias"], 5 * own["dense"]["bias"], rtol=1e-6)
    np.testing.assert_allclose(same["dense"]["kernel"], own["dense"]["kernel"], rtol=1e-6)


def test_both_learning_rates_may_be_schedules():
    halving = lambda step: 0.1 * 0.5**step
    scheduled = updates_of(muon(halving, adam_learning_rate=halving))
    constant = updates_of(muon(0.1, adam_learning_rate=0.1))
    jax.tree.map(
        lambda a, b: np.testing.assert_allclose(a, b / 4, rtol=1e-5), scheduled, constant
    )


def test_a_rate_may_follow_muon_at_rate_one():
    """As in trainers that multiply the updates themselves, the decay included."""
    halving = lambda step: 0.1 * 0.5**step
    decays = {"weight_decay": 0.1, "adam_weight_decay": 0.1}
    inside = muon(halving, adam_learning_rate=lambda step: 0.2 * halving(step), **decays)
    outside = optax.chain(
        muon(1.0, adam_learning_rate=0.2, **decays), optax.scale_by_schedule(halving)
    )
    jax.tree.map(
        lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-5),
        updates_of(outside),
        updates_of(inside),
    )


@pytest.mark.parametrize("group", ["muon", "fallback"])
def test_the_first_entry_of_a_group_is_its_moments_and_no_schedule(group):
    """What docs/chains.md takes from a new state to reset a group."""
    tx = muon(lambda step: 0.1, weight_decay=lambda step: 0.1)
    new = tx.init(PARAMS)
    _, old = tx.update(GRADS, new, PARAMS)
    counts = lambda state: [
        int(x) for x in jax.tree.leaves(state.inner_states[group].inner_state) if x.ndim == 0
    ]
    assert set(counts(new)) == {0} and set(counts(old)) == {1}
    first, *others = old.inner_states[group].inner_state
    assert {"count", "mu"} <= {*first._fields}
    assert all(leaf.ndim == 0 for leaf in jax.tree.leaves(others))


def test_weight_decay_is_decoupled_and_masked():
    zero = jax.tree.map(jnp.zeros_like, PARAMS)
    for mask, expected in ((None, -0.1 * 5.0 * 2.0), ({"dense": False, "embed": False}, 0.0)):
        tx = muon(0.1, weight_decay=5.0, weight_decay_mask=mask)
        updates, _ = tx.update(zero, tx.init(PARAMS), PARAMS)
        np.testing.assert_allclose(updates["dense"]["kernel"], expected, rtol=1e-6)
        np.testing.assert_array_equal(updates["dense"]["bias"], 0.0)


def test_each_group_has_a_mask_of_its_decay():
    """A tree for the whole model, or a function of what the group trains."""
    zero = jax.tree.map(jnp.zeros_like, PARAMS)
    only_embeddings = lambda params: {"dense": False, "embed": True}
    for mask in (only_embeddings(PARAMS), only_embeddings):
        tx = muon(0.1, adam_weight_decay=5.0, adam_weight_decay_mask=mask)
        updates, _ = tx.update(zero, tx.init(PARAMS), PARAMS)
        np.testing.assert_allclose(
            updates["embed"]["embedding"], -0.1 * 5.0 * PARAMS["embed"]["embedding"], rtol=1e-6
        )
        assert not updates["dense"]["bias"].any() and not updates["dense"]["kernel"].any()


def test_parameters_are_not_needed_where_nothing_decays():
    tx = muon(0.1)
    updates, _ = tx.update(GRADS, tx.init(PARAMS))
    assert jax.tree.structure(updates) == jax.tree.structure(GRADS)
    with pytest.raises(ValueError, match=r"params=None.*use tx.update\(grads, state, params\)"):
        decayed = muon(0.1, weight_decay=0.1)
        decayed.update(GRADS, decayed.init(PARAMS))


def test_inject_hyperparams_keeps_what_static_args_name():
    mask = lambda params: jax.tree.map(lambda p: p.ndim == 2, params)
    static = {"weight_decay_mask": mask, "dims": lambda params: FLAX}
    injected = optax.inject_hyperparams(muon, static_args=tuple(static))
    found = updates_of(injected(learning_rate=0.1, weight_decay=0.5, **static))
    expected = updates_of(muon(0.1, weight_decay=0.5))
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, atol=1e-4), found, expected)


def test_a_callable_mask_that_is_not_static_is_an_error_not_a_lost_decay():
    mask = lambda params: jax.tree.map(lambda p: jnp.ndim(p) == 2, params)
    with pytest.raises(ValueError, match=r"weight_decay_mask=False; .*static_args"):
        injected = optax.inject_hyperparams(muon)
        injected(learning_rate=0.1, weight_decay=1.0, weight_decay_mask=mask).init(PARAMS)


def test_dims_are_resolved_on_the_whole_tree():
    """The parts that optax masks lack what a guess is checked against: here, the biases."""
    params = {
        "a": {"kernel": jnp.ones((3, 4, 5)), "bias": jnp.ones((3, 5))},
        "b": {"kernel": jnp.ones((6, 7)), "bias": jnp.ones(7)},
    }
    seen = []
    tx = muon(0.1, dims=lambda tree: (seen.append(len(jax.tree.leaves(tree))), FLAX)[1])
    jax.eval_shape(tx.update, params, tx.init(params), params)
    assert seen == [4, 4]


def test_an_empty_tree_has_no_updates():
    tx = muon(0.1)
    assert tx.update({}, tx.init({}), {})[0] == {}


def test_empty_arrays_get_empty_updates():
    params = {"kernel": jnp.zeros((0, 4)), "w": jnp.zeros((3, 0)), "weight": jnp.ones((2, 2))}
    tx = muon(0.1)
    updates, _ = jax.jit(tx.update)(params, tx.init(params), params)
    assert updates["kernel"].shape == (0, 4) and updates["w"].shape == (3, 0)


def test_a_shared_argument_has_the_default_of_optax():
    ours = inspect.signature(muon).parameters
    theirs = inspect.signature(optax.contrib.muon).parameters
    shared = set(ours) & set(theirs)
    assert {"learning_rate", "beta", "weight_decay", "nesterov", "adam_b1"} <= shared
    for name in shared:
        assert ours[name].default == theirs[name].default, name


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: muon(-0.1), "learning_rate=-0.1; use a number ≥ 0, or a schedule"),
        (lambda: muon(float("nan")), "learning_rate=nan"),
        (lambda: muon(None), "learning_rate=None; use a number"),
        (lambda: muon(0.1, adam_learning_rate=-1.0), "adam_learning_rate=-1.0"),
        (lambda: muon(0.1, weight_decay=-0.1), "weight_decay=-0.1; use a number ≥ 0"),
        (lambda: muon(0.1, adam_weight_decay=-1), "adam_weight_decay=-1"),
        (lambda: muon(0.1, adam_weight_decay_mask=True), "adam_weight_decay_mask=True; use a"),
        (lambda: muon(0.1, adam_b1=2.0), r"adam_b1=2.0; use a number in \[0, 1\)"),
        (lambda: muon(0.1, adam_b2=-3), "adam_b2=-3"),
        (lambda: muon(0.1, adam_eps=-1.0), "adam_eps=-1.0"),
        (lambda: muon(0.1, weight_decay_mask=False), "weight_decay_mask=False; .*static_args"),
        (
            lambda: muon(0.1, fallback=optax.sgd(0.1), adam_learning_rate=0.1),
            "adam_learning_rate cannot be combined with `fallback`",
        ),
        (lambda: muon(0.1, fallback="sgd"), "fallback='sgd'; use a transformation"),
        (
            lambda: muon(0.1, weight_decay_mask=jnp.ones(())),
            'pass static_args="weight_decay_mask"',
        ),
        (lambda: muon(0.1, beta=2.0), "beta=2.0"),
        (lambda: muon(0.1, shape_scaling="spectral"), "shape_scaling='spectral'; use one of"),
        (lambda: muon(0.1).init({"bias": jnp.ones(3)}), "muon has no matrix to train"),
        (
            lambda: muon(0.1, exclude="w").init({"w": jnp.ones((3, 4)), "b": jnp.ones(3)}),
            r"put rules in front of `dims` .* as Rule\('mine', r'\^w\$', 'in out'\) does",
        ),
        (lambda: muon(0.1).init({"codes": jnp.ones((3, 4, 5))}), "leaf 'codes'.*no rule in"),
        (
            lambda: muon(0.1).init({"step": jnp.zeros((), int)}),
            "leaf 'step'.*only real or complex",
        ),
        (
            lambda: muon(0.1, dims=MuonDimensionNumbers(0, 1)).init(PARAMS),
            r"leaf 'dense/bias' \(shape \(8,\), float32\)",
        ),
    ],
)
def test_bad_arguments_say_what_to_write(make, message):
    with pytest.raises(ValueError, match=message):
        make()
