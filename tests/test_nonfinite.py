"""What is not finite: whose update it breaks, and whose it does not."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from jax.sharding import AxisType, NamedSharding
from jax.sharding import PartitionSpec as P

from muon_optax import METHODS, muon, scale_by_muon
from muon_optax.compat import transfer
from muon_optax.diagnostics import latest

NAN, INF = float("nan"), float("inf")
DIMS = {
    "w": "in out",
    "experts": "expert in out",
    "heads": "in (heads=2 out)",
    "qkv": "in out[q=6 k=3 v=3]",
}
SHAPES = {"w": (6, 9), "experts": (3, 6, 9), "heads": (9, 8), "qkv": (4, 12)}
# Leaf → an entry, and the entries of its matrix.
HIT = {
    "w": ((2, 3), np.s_[:]),
    "experts": ((1, 2, 3), np.s_[1]),
    "heads": ((2, 5), np.s_[:, 4:]),
    "qkv": ((2, 7), np.s_[:, 6:9]),
}
MATRICES = {"w": 1, "experts": 3, "heads": 2, "qkv": 3}


def tree(seed):
    rng = np.random.default_rng(seed)
    return {name: jnp.asarray(rng.normal(size=s), jnp.float32) for name, s in SHAPES.items()}


def broken(grads, name, poison):
    return {**grads, name: grads[name].at[HIT[name][0]].set(poison)}


def others(name):
    """Where the entries of other matrices are, leaf by leaf."""
    masks = {other: np.ones(shape, bool) for other, shape in SHAPES.items()}
    masks[name][HIT[name][1]] = False
    return masks


POISONED = pytest.mark.parametrize(
    ("name", "poison"), [("w", NAN), ("experts", INF), ("heads", -INF), ("qkv", NAN)]
)
SKIPPING, PROPAGATING = (
    scale_by_muon(dims=DIMS, on_nonfinite=policy) for policy in ("skip", "propagate")
)
skipping_update, propagating_update = jax.jit(SKIPPING.update), jax.jit(PROPAGATING.update)


@pytest.mark.device
@POISONED
def test_a_broken_matrix_is_skipped_and_keeps_its_momentum(name, poison):
    update = skipping_update
    _, before = update(tree(0), SKIPPING.init(tree(0)))
    clean, after_clean = update(tree(1), before)
    found, after = update(broken(tree(1), name, poison), before)
    assert before.skipped == after_clean.skipped == 0 and after.skipped == 1
    hit = HIT[name][1]
    assert not found[name][hit].any() and np.asarray(clean[name][hit]).all()
    np.testing.assert_array_equal(after.mu[name][hit], before.mu[name][hit])
    for other, mask in others(name).items():
        np.testing.assert_array_equal(found[other][mask], clean[other][mask])
        np.testing.assert_array_equal(after.mu[other][mask], after_clean.mu[other][mask])


@POISONED
def test_what_propagates_breaks_its_own_matrix_from_then_on_and_no_other(name, poison):
    update = propagating_update
    state = PROPAGATING.init(tree(0))
    clean_state = state
    for seed in range(2):
        grads = tree(seed)
        clean, clean_state = update(grads, clean_state)
        found, state = update(broken(grads, name, poison) if seed == 0 else grads, state)
        assert not jnp.isfinite(found[name][HIT[name][1]]).all()
        assert not jnp.isfinite(state.mu[name][HIT[name][0]])
        for other, mask in others(name).items():
            np.testing.assert_array_equal(found[other][mask], clean[other][mask])


@pytest.mark.parametrize("name", ["near_exact", "svd"])
def test_the_other_methods_skip_alike(name):
    tx = scale_by_muon(METHODS[name], dims=DIMS, on_nonfinite="skip")
    everything = jax.tree.map(lambda x: jnp.full_like(x, NAN), tree(0))
    updates, state = jax.jit(tx.update)(everything, tx.init(tree(0)))
    assert state.skipped == sum(MATRICES.values())
    assert not any(leaf.any() for leaf in jax.tree.leaves((updates, state.mu)))


def test_a_momentum_that_is_broken_already_is_counted_at_every_step():
    state = SKIPPING.init(tree(0))
    state = state._replace(mu=broken(state.mu, "experts", NAN))
    for step in (1, 2):
        updates, state = skipping_update(tree(step), state)
        assert state.skipped == step
        assert not updates["experts"][1].any() and np.asarray(updates["experts"][0]).all()


def test_where_all_is_finite_nothing_is_skipped():
    grads = [tree(seed) for seed in range(3)]
    found = []
    for tx, update in ((PROPAGATING, propagating_update), (SKIPPING, skipping_update)):
        state = tx.init(tree(0))
        for g in grads:
            updates, state = update(g, state)
        found.append((updates, state.mu))
    # Another program, whose sums XLA fuses otherwise: Jordan's five steps grow eps by 485.
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, atol=485 * 1.2e-7), *found)
    assert state.skipped == 0


@pytest.mark.slow
@pytest.mark.parametrize("kind", [AxisType.Auto, AxisType.Explicit], ids=str)
def test_matrices_are_skipped_alike_on_a_mesh(kind):
    mesh = jax.make_mesh(
        (2, 2), ("a", "b"), axis_types=(kind,) * 2, devices=jax.devices("cpu")[:4]
    )
    specs = {"w": P("a"), "experts": P(None, "a"), "heads": P(None, "b"), "qkv": P("a", "b")}
    shardings = {name: NamedSharding(mesh, spec) for name, spec in specs.items()}
    grads = tree(1)
    for name in ("experts", "heads", "qkv"):
        grads = broken(grads, name, NAN)
    expected, expected_state = skipping_update(grads, SKIPPING.init(tree(0)))
    given = shardings if kind == AxisType.Auto else None
    tx = scale_by_muon(dims=DIMS, on_nonfinite="skip", shardings=given)
    params = jax.device_put(tree(0), shardings)
    found, state = jax.jit(tx.update)(jax.device_put(grads, shardings), tx.init(params), params)
    assert state.skipped == expected_state.skipped == 3
    for name, sharding in shardings.items():
        assert found[name].sharding.is_equivalent_to(sharding, found[name].ndim)
        # Jordan's five steps grow a rounding error by up to 485.
        np.testing.assert_allclose(found[name], expected[name], atol=485 * 1.2e-7)


def test_muon_skips_the_fallback_as_a_whole_and_recovers():
    params = {"kernel": jnp.eye(3), "bias": jnp.ones(3), "scale": jnp.ones(3)}
    tx = muon(0.1, weight_decay=0.5, adam_learning_rate=0.1, on_nonfinite="skip")
    update = jax.jit(tx.update)
    bad = {**params, "bias": params["bias"].at[0].set(NAN)}
    updates, state = update(bad, tx.init(params), params)
    assert not updates["bias"].any() and not updates["scale"].any()
    assert np.asarray(updates["kernel"]).diagonal().all()
    bad = {**params, "kernel": params["kernel"].at[0, 0].set(INF)}
    updates, state = update(bad, state, params)
    np.testing.assert_allclose(updates["kernel"], -0.1 * 0.5 * params["kernel"])  # decay
    expected = optax.adam(0.1).update(params, optax.adam(0.1).init(params))[0]
    np.testing.assert_allclose(updates["bias"], expected["bias"], rtol=1e-6)


def test_the_count_goes_through_scan_cond_and_inject_hyperparams():
    grads = jnp.stack([jnp.ones((2, 3)), jnp.full((2, 3), NAN), jnp.full((2, 3), INF)])
    tx = scale_by_muon(on_nonfinite="skip")

    def step(state, g):
        return jax.lax.cond(True, lambda: tx.update(g, state)[1], lambda: state), None

    state, _ = jax.lax.scan(step, tx.init(grads[0]), grads)
    assert state.skipped == 2 and state.count == 3
    injected = optax.inject_hyperparams(scale_by_muon)(beta=0.9, on_nonfinite="skip")
    _, state = injected.update(grads[1], injected.init(grads[0]))
    assert state.inner_state.skipped == 1


def test_a_recorded_run_skips_too():
    params = {"kernel": jnp.eye(3)}
    tx = muon(0.1, record_every=1, on_nonfinite="skip")
    updates, state = tx.update({"kernel": jnp.full((3, 3), NAN)}, tx.init(params), params)
    assert not updates["kernel"].any()
    measured = latest(state)[1]["kernel"]  # of the zero that the matrix became
    assert measured["operator_norm"] == measured["momentum_stable_rank"] == 0
    assert all(np.isfinite(of).all() for name, of in measured.items() if "gradient" not in name)


def test_a_state_changes_its_policy():
    g = jnp.ones((2, 3))
    made = {policy: scale_by_muon(on_nonfinite=policy) for policy in ("propagate", "skip")}
    for (old_policy, old), new in zip(made.items(), reversed(made.values())):
        _, state = old.update(g, old.init(g))
        advice = (
            rf"made with on_nonfinite='{old_policy}', .*compat.transfer\(state, like=tx.init"
        )
        with pytest.raises(ValueError, match=advice):
            new.update(g, state)
        moved = transfer(state, like=new.init(g))
        assert moved.count == 1
        np.testing.assert_array_equal(moved.mu, state.mu)
        _, after = new.update(g, moved)
        assert (after.skipped is None) == (old_policy == "skip")


def test_an_unknown_policy_is_an_error_that_lists_the_known():
    for make in (scale_by_muon, lambda **options: muon(0.1, **options)):
        with pytest.raises(ValueError, match=r"on_nonfinite='zero'; use one of .*'skip'"):
            make(on_nonfinite="zero")
