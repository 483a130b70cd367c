"""States of PyTorch optimizers: their layout, names and counts."""

import jax.numpy as jnp
import numpy as np
import optax
import pytest
from jobs import draw, moments

from muon_optax import compat, muon


def test_torchs_layout_becomes_flaxs():
    rng = np.random.default_rng(0)
    shapes = {"dense": (3, 2), "heads": (8, 4), "conv": (5, 4, 3, 2), "bias": (3,)}
    ours = {"dense": (2, 3), "heads": (4, 2, 4), "conv": (3, 2, 4, 5), "bias": (3,)}
    buffers = {name: rng.standard_normal(shape) for name, shape in shapes.items()}
    params = {name: jnp.zeros(shape) for name, shape in ours.items()}
    state_dict = {
        "state": {
            0: {"momentum_buffer": buffers["dense"]},
            1: {"momentum_buffer": buffers["heads"]},
            2: {"momentum_buffer": buffers["conv"]},
            3: {"exp_avg": buffers["bias"], "exp_avg_sq": buffers["bias"] ** 2, "step": 7},
        },
        "param_groups": [],
    }
    mu, adam = compat.from_torch(state_dict, list(shapes), params, count=7)
    np.testing.assert_allclose(mu.mu["dense"], buffers["dense"].T, rtol=1e-6)
    np.testing.assert_allclose(mu.mu["heads"].reshape(4, 8), buffers["heads"].T, rtol=1e-6)
    np.testing.assert_allclose(mu.mu["conv"], buffers["conv"].transpose(2, 3, 1, 0), rtol=1e-6)
    tx = muon(
        0.02,
        dims={"dense": "in out", "heads": "in out out", "conv": "in in in out", "bias": None},
    )
    state = compat.transfer((mu, adam), tx.init(params), momentum_scale=0.05)
    assert int(moments(state, "muon").count) == int(moments(state, "fallback").count) == 7
    np.testing.assert_allclose(moments(state, "muon").mu["conv"], 0.05 * mu.mu["conv"])
    np.testing.assert_allclose(
        moments(state, "fallback").nu["bias"], buffers["bias"] ** 2, rtol=1e-6
    )
    same = {"dense": jnp.zeros((3, 2))}
    mu, _ = compat.from_torch(
        {"state": {0: state_dict["state"][0]}}, ["dense"], same, 7, convert=lambda name, x: x
    )
    np.testing.assert_allclose(mu.mu["dense"], buffers["dense"], rtol=1e-6)


def test_moonlights_names_and_tables_are_known():
    table, bias = np.arange(12.0).reshape(4, 3), np.arange(3.0)
    entries = {
        0: {"moment1": table, "moment2": table**2, "step": 5},
        1: {"moment1": bias, "moment2": bias},
    }
    params = {"wte": {"embedding": jnp.zeros((4, 3))}, "bias": jnp.zeros(3)}
    _, adam = compat.from_torch({"state": entries}, ["wte/embedding", "bias"], params, 5)
    np.testing.assert_array_equal(adam.mu["wte/embedding"], table)
    np.testing.assert_array_equal(adam.nu["wte/embedding"], table**2)


def test_adams_count_restarts_where_it_has_no_moments():
    """As beside torch.optim.Muon: zero moments under a large count would take long steps."""
    params = draw(np.random.default_rng(0))
    known = compat.from_torch(
        {"state": {0: {"momentum_buffer": np.ones((9, 6))}}}, ["blocks/up/kernel"], params, 1000
    )
    moved = compat.transfer(known, muon(optax.constant_schedule(0.1)).init(params))
    assert int(moments(moved, "muon").count) == 1000
    assert int(moments(moved, "fallback").count) == 0
    schedules = [
        moved.inner_states[label].inner_state[-1].count for label in ("muon", "fallback")
    ]
    assert [int(count) for count in schedules] == [1000, 1000]


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (
            lambda: compat.from_torch({"state": {}}, ["a"], {"b": 0}, 1),
            r"`names` has 'a', not a parameter; use paths from \['b'\]",
        ),
        (
            lambda: compat.from_torch({"state": {1: {}}}, ["a"], {"a": jnp.ones(2)}, 1),
            "parameter 1 of the state_dict has no name",
        ),
        (
            lambda: compat.from_torch(
                {"state": {0: {"momentum_buffer": np.ones((2, 3))}}},
                ["a"],
                {"a": jnp.ones(2)},
                1,
            ),
            r"leaf 'a' .*its moment has shape \(3, 2\) after `convert`",
        ),
        (
            lambda: compat.from_torch(
                {"state": {0: {"momentum_buffer": np.ones((4, 3))}}},
                ["a/kernel"],
                {"a": {"kernel": jnp.ones((4, 3))}},
                1,
            ),
            r"leaf 'a/kernel' \(shape \(4, 3\).*its moment has shape \(3, 4\) after `convert`",
        ),
        (
            lambda: compat.from_torch(
                {"state": {0: {"square": 1}}}, ["a"], {"a": jnp.ones(2)}, 1
            ),
            r"'a' has the keys \['square'\], but none of \['exp_avg'",
        ),
        (lambda: compat.from_torch({"state": {}}, [], {}, -1), "count=-1; use a whole number"),
    ],
)
def test_a_state_that_does_not_match_says_what_to_do(make, message):
    with pytest.raises(ValueError, match=message):
        make()
