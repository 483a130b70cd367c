"""States that move: from Optax and AdamW to ours and back, through a checkpoint."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from jobs import assert_same, begun, draw, moments, restored, steps

from muon_optax import (
    FLAX,
    Rule,
    compat,
    muon,
    partition_matrices,
    scale_by_muon,
)

RATES = {"learning_rate": 0.02, "weight_decay": 0.5}


OURS = {
    "drop-in": lambda: compat.muon(**RATES),
    "muon": lambda: partition_matrices(
        lambda dims: optax.chain(
            compat.scale_by_muon(weight_dimension_numbers=dims),
            compat.scale_by_shape(dims),
            optax.add_decayed_weights(RATES["weight_decay"]),
            optax.scale_by_learning_rate(RATES["learning_rate"]),
        ),
        optax.nadamw(RATES["learning_rate"], weight_decay=0.0),
        (Rule("all of rank two", "", "in out"), *FLAX),
    ),
}


@pytest.mark.slow
@pytest.mark.parametrize("ours", OURS)
def test_a_job_of_optax_contrib_goes_on_with_ours_through_a_checkpoint(ours, tmp_path):
    theirs, ours = optax.contrib.muon(**RATES), OURS[ours]()
    params, state = begun(theirs)
    expected, _ = steps(theirs, params, state, 10, seed=2)
    like = {"params": params, "state": theirs.init(params)}
    saved = restored(tmp_path, {"params": params, "state": state}, like)
    state = compat.transfer(saved["state"], ours.init(saved["params"]))
    found, _ = steps(ours, saved["params"], state, 10, seed=2)
    assert_same(found, expected, atol=1e-6)
    afresh, _ = steps(ours, params, ours.init(params), 10, seed=2)
    assert (
        np.abs(
            afresh[-1]["blocks"]["up"]["kernel"] - expected[-1]["blocks"]["up"]["kernel"]
        ).max()
        > 1e-3
    )


def test_a_moved_state_can_be_donated():
    params, state = begun(optax.adamw(1e-2))
    tx = muon(0.02)
    moved = compat.transfer(state, tx.init(params))
    jax.jit(tx.update, donate_argnums=1)(params, moved, params)
    assert all(x.is_deleted() for x in jax.tree.leaves(moved))


def test_a_job_of_ours_goes_on_with_optax_contrib():
    theirs, ours = optax.contrib.muon(**RATES), compat.muon(**RATES)
    params, state = begun(ours)
    expected, _ = steps(ours, params, state, 10, seed=2)
    back = compat.transfer(state, theirs.init(params))
    assert jax.tree.structure(back) == jax.tree.structure(theirs.init(params))
    np.testing.assert_array_equal(
        moments(back, "muon").ns_coeffs, moments(theirs.init(params), "muon").ns_coeffs
    )
    assert_same(steps(theirs, params, back, 10, seed=2)[0], expected, atol=1e-6)


def test_a_state_of_optaxs_muon_is_refused_by_the_name_of_its_module():
    theirs, ours = optax.contrib.scale_by_muon(), scale_by_muon()
    grads = {"w": jnp.ones((2, 3))}
    found = r"is optax\.contrib\S*\.MuonState, not muon_optax.MuonState; .*compat.transfer"
    with pytest.raises(ValueError, match=found):
        ours.update(grads, theirs.init(grads))


def test_adamws_moments_become_ours():
    adamw, ours = optax.adamw(1e-2), muon(0.02)
    params, state = begun(adamw)
    new = compat.transfer(state, ours.init(params))
    assert jax.tree.structure(new) == jax.tree.structure(ours.init(params))
    mu, adam = moments(new, "muon"), moments(new, "fallback")
    assert int(mu.count) == int(adam.count) == 5
    for name in ("up", "down"):
        kernel = mu.mu["blocks"][name]["kernel"]
        np.testing.assert_array_equal(kernel, state[0].mu["blocks"][name]["kernel"])
    for field in ("mu", "nu"):
        for found, expected in (
            (getattr(adam, field)["table"], getattr(state[0], field)["table"]),
            (
                getattr(adam, field)["blocks"]["up"]["bias"],
                getattr(state[0], field)["blocks"]["up"]["bias"],
            ),
        ):
            jax.tree.map(np.testing.assert_array_equal, found, expected)


def test_relabelling_keeps_what_stays_and_starts_what_moves_gently():
    """A table that Muon trained by rank goes to Adam; nothing else notices."""
    rules = (Rule("all of rank two", "", "in out", min_ndim=2, max_ndim=2), *FLAX)
    settings = {"learning_rate": 0.02, "adam_learning_rate": 0.01}
    old, new = muon(**settings, dims=rules), muon(**settings)
    params, state = begun(old, count=40)
    moved = compat.transfer(state, new.init(params))
    for name in ("up", "down"):
        before, after = (moments(s, "muon").mu["blocks"][name] for s in (state, moved))
        jax.tree.map(np.testing.assert_array_equal, before["kernel"], after["kernel"])
    bias = lambda s: [
        getattr(moments(s, "fallback"), f)["blocks"]["up"]["bias"] for f in ("mu", "nu")
    ]
    jax.tree.map(np.testing.assert_array_equal, bias(state), bias(moved))
    table = moments(state, "muon").mu["table"]["embedding"]
    adam = moments(moved, "fallback")
    np.testing.assert_array_equal(adam.mu["table"]["embedding"], table)
    square = np.square(table, dtype=np.float64)
    expected = 39 * np.maximum(square.mean(1, keepdims=True), square.mean()) + 0 * square
    np.testing.assert_allclose(adam.nu["table"]["embedding"], expected, rtol=1e-5)
    trajectory, _ = steps(new, params, moved, 10, seed=3)
    first = trajectory[0]["table"]["embedding"] - params["table"]["embedding"]
    largest = max(
        np.sqrt(np.mean((b["table"]["embedding"] - a["table"]["embedding"]) ** 2))
        for a, b in zip([params, *trajectory], trajectory)
    )
    # Adam's steps of noise have the RMS of its rate over √19; with a second moment of 0 they
    # would be six times the rate.
    assert np.sqrt(np.mean(first**2)) > 0 and largest < 0.01
    assert_same(
        [t["blocks"] for t in trajectory],
        [t["blocks"] for t in steps(old, params, state, 10, seed=3)[0]],
        atol=1e-6,
    )
    there = compat.transfer(moved, old.init(params))
    np.testing.assert_array_equal(moments(there, "muon").mu["table"]["embedding"], table)


def test_rows_that_are_seldom_seen_start_gently_too():
    """Steps over the rate in the rows of a table of which one in fifty is seen at a time."""
    settings = {"learning_rate": 0.02, "adam_learning_rate": 0.01}
    dims = {"table": "in out", "w": "in out"}
    old, new = (
        muon(**settings, dims=dims),
        muon(**settings, dims={"table": None, "w": "in out"}),
    )
    rng = np.random.default_rng(0)

    def grads():
        g = np.zeros((50, 4), np.float32)
        g[rng.integers(50)] = rng.standard_normal(4)
        return {
            "table": jnp.asarray(g),
            "w": jnp.asarray(rng.standard_normal((4, 4)), jnp.float32),
        }

    params = jax.tree.map(jnp.zeros_like, grads())
    state, update, moved_update = old.init(params), jax.jit(old.update), jax.jit(new.update)
    for _ in range(200):
        _, state = update(grads(), state, params)
    state, largest = compat.transfer(state, new.init(params)), 0.0
    for _ in range(30):
        updates, state = moved_update(grads(), state, params)
        largest = max(largest, float(jnp.abs(updates["table"]).max()))
    assert 0 < largest < 1.5 * 0.01


def test_schedules_and_dtypes_go_on():
    schedule = optax.linear_schedule(0.1, 0.0, 20)
    old, new = (
        muon(schedule),
        muon(schedule, mu_dtype="bfloat16", adam_weight_decay=lambda t: 0.1),
    )
    params, state = begun(old)
    moved = compat.transfer(state, new.init(params))
    assert {int(x) for x in jax.tree.leaves(moved) if x.dtype == jnp.int32} == {5}
    mu = moments(moved, "muon").mu["blocks"]["up"]["kernel"]
    assert mu.dtype == jnp.bfloat16
    np.testing.assert_array_equal(
        mu, moments(state, "muon").mu["blocks"]["up"]["kernel"].astype("bfloat16")
    )


def test_a_parameter_may_be_called_mu():
    params = {"encoder": {"mu": {"kernel": jnp.eye(3)}, "nu": {"bias": jnp.ones(3)}}}
    adamw, tx = optax.adamw(0.1), muon(0.1)
    _, state = adamw.update(params, adamw.init(params), params)
    moved = compat.transfer(state, tx.init(params))
    found = moments(moved, "muon").mu["encoder"]["mu"]["kernel"]
    np.testing.assert_array_equal(found, state[0].mu["encoder"]["mu"]["kernel"])


def test_adamws_average_becomes_a_heavy_ball():
    params, state = begun(optax.adamw(1e-2))
    tx = muon(0.02, heavy_ball=True)
    moved = compat.transfer(state, tx.init(params), momentum_scale=20.0)
    kernel = moments(moved, "muon").mu["blocks"]["up"]["kernel"]
    np.testing.assert_allclose(kernel, 20 * state[0].mu["blocks"]["up"]["kernel"], rtol=1e-6)
    table = moments(moved, "fallback").mu["table"]["embedding"]
    np.testing.assert_array_equal(table, state[0].mu["table"]["embedding"])


def test_counts_that_differ_stay_apart():
    """As after a move from torch.optim.Muon, whose Adam started again."""
    tx = muon(optax.constant_schedule(0.1))
    params = draw(np.random.default_rng(0))
    state = tx.init(params)
    counts = {"muon": 1010, "fallback": 10}
    inner = {
        label: masked._replace(
            inner_state=(
                masked.inner_state[0]._replace(count=jnp.asarray(counts[label])),
                *masked.inner_state[1:],
            )
        )
        for label, masked in state.inner_states.items()
    }
    moved = compat.transfer(state._replace(inner_states=inner), tx.init(params))
    assert {label: int(moments(moved, label).count) for label in counts} == counts
    assert int(moved.inner_states["muon"].inner_state[-1].count) == 1010


def test_a_heavy_ball_goes_on_as_an_average():
    """Over 1-β they are one, so the job does not notice."""
    heavy = muon(0.02, bias_correction=False, heavy_ball=True)
    average = muon(0.02, bias_correction=False)
    params, state = begun(heavy)
    expected, _ = steps(heavy, params, state, 10, seed=2)
    moved = compat.transfer(state, average.init(params), momentum_scale=0.05)
    assert_same(steps(average, params, moved, 10, seed=2)[0], expected, atol=2e-5)
    unscaled, _ = steps(
        average, params, compat.transfer(state, average.init(params)), 10, seed=2
    )
    change = unscaled[-1]["blocks"]["up"]["kernel"] - expected[-1]["blocks"]["up"]["kernel"]
    assert np.abs(change).max() > 1e-3


TX = muon(0.02)


PARAMS = draw(np.random.default_rng(0))


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (
            lambda: compat.transfer(optax.sgd(0.1).init(PARAMS), TX.init(PARAMS)),
            r"no moment of the old state fits the new one.* has no moments",
        ),
        (
            lambda: compat.transfer(
                optax.adam(0.1).init({**PARAMS, "table": {"embedding": jnp.ones((12, 7))}}),
                TX.init(PARAMS),
            ),
            r"'table/embedding' \(shape \(12, 6\).*it has shape \(12, 7\) in the old state",
        ),
        (
            lambda: compat.transfer(TX.init(PARAMS), TX.init(PARAMS), momentum_scale=0.0),
            "momentum_scale=0.0; use a number > 0",
        ),
        (
            lambda: compat.transfer(TX.init(PARAMS), TX),
            "`like` is a transformation; pass its state",
        ),
        (
            lambda: compat.transfer(TX.init(PARAMS), TX.init({"model": PARAMS})),
            r"such as \['blocks/down/kernel', .*; the new state .* \['model/blocks/down",
        ),
        (
            lambda: compat.transfer((TX.init(PARAMS), TX.init(PARAMS)), TX.init(PARAMS)),
            "`state` has two moments of 'blocks/.*'; pass only",
        ),
        (
            lambda: compat.transfer(TX.init(PARAMS), TX.init(PARAMS | {"bias": jnp.ones(3)})),
            r"leaf 'bias' .*not in the old state, but Adam's step count continues",
        ),
        (
            lambda: compat.transfer(
                TX.init(PARAMS), jax.eval_shape(TX.init, PARAMS | {"w1": jnp.ones((3, 3))})
            ),
            r"leaf 'w1' .*not in the old state, .*; use tx.init\(params\)",
        ),
    ],
)
def test_a_state_that_does_not_match_says_what_to_do(make, message):
    with pytest.raises(ValueError, match=message):
        make()
