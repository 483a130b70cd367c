"""Three decays, compared with loops in NumPy, and with wrong loops that must differ."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from reference import muon_updates

from muon_optax import METHODS, scale_by_muon
from muon_optax.transforms._weight_decay import (
    DecayState,
    add_cautious_weight_decay,
    add_decayed_weights,
    add_independent_weight_decay,
)

RATE, DECAY, STEPS, SHAPE = 0.1, 0.5, 10, (4, 6)
RNG = np.random.default_rng(0)
GRADS = RNG.standard_normal((STEPS, *SHAPE)).astype(np.float32)
START = RNG.standard_normal(SHAPE).astype(np.float32)
DECAYS = [add_decayed_weights, add_cautious_weight_decay, add_independent_weight_decay]
every_decay = pytest.mark.parametrize("decay", DECAYS, ids=lambda f: f.__name__)


def cautious(t, w, u):
    return w - RATE * (u + DECAY * np.where(u * w >= 0, w, 0))


def independent(t, w, u):
    return w - RATE * u - DECAY * w


def coupled(t, w, u):
    return w - RATE * (u + DECAY * w)


def looped(rule):
    """Ten steps of Muon by `W ← rule(t, W, u)`, in float64."""
    w = START.astype(np.float64)
    updates = muon_updates(GRADS, METHODS["jordan"].schedule, 0.95, True, True)
    for t, u in enumerate(updates):
        w = rule(t, w, u)
    return w


def chained(*after):
    """Ten steps of Muon by the library, with these transformations behind it."""
    tx = optax.chain(scale_by_muon(METHODS["jordan"]), *after)
    w, update = jnp.asarray(START), jax.jit(tx.update)
    state = tx.init(w)
    for g in GRADS:
        updates, state = update(jnp.asarray(g), state, w)
        w = optax.apply_updates(w, updates)
    return w


def one_step(tx, updates, params):
    return tx.update(updates, tx.init(params), params)[0]


def test_ten_steps_of_cautious_decay_equal_numpy_and_no_other_rule():
    found = chained(add_cautious_weight_decay(DECAY), optax.scale_by_learning_rate(RATE))
    np.testing.assert_allclose(found, looped(cautious), atol=1e-5)
    wrong = [
        coupled,
        lambda t, w, u: w - RATE * (u + DECAY * np.where(u * w < 0, w, 0)),
        lambda t, w, u: w - RATE * u - DECAY * np.where(u * w >= 0, w, 0),
        lambda t, w, u: w - RATE * (u + RATE * DECAY * np.where(u * w >= 0, w, 0)),
        lambda t, w, u: w - RATE * u,
    ]
    assert all(np.abs(found - looped(rule)).max() > 0.01 for rule in wrong)


def test_ten_steps_of_independent_decay_equal_numpy_and_no_other_rule():
    found = chained(optax.scale_by_learning_rate(RATE), add_independent_weight_decay(DECAY))
    np.testing.assert_allclose(found, looped(independent), atol=1e-5)
    wrong = [
        coupled,
        lambda t, w, u: w - RATE * u + DECAY * w,
        lambda t, w, u: (1 - DECAY) * (w - RATE * u),
        lambda t, w, u: w - RATE * u,
    ]
    assert all(np.abs(found - looped(rule)).max() > 0.01 for rule in wrong)


def test_ten_steps_of_plain_decay_equal_numpy():
    found = chained(add_decayed_weights(DECAY), optax.scale_by_learning_rate(RATE))
    np.testing.assert_allclose(found, looped(coupled), atol=1e-5)


def test_independent_decay_does_not_depend_on_the_learning_rate():
    """At η = 0 weights go down by 1 - λ a step; a coupled decay would leave them."""
    found = chained(optax.scale_by_learning_rate(0.0), add_independent_weight_decay(DECAY))
    np.testing.assert_allclose(found, (1 - DECAY) ** STEPS * START, rtol=1e-5)
    coupled = chained(optax.add_decayed_weights(DECAY), optax.scale_by_learning_rate(0.0))
    np.testing.assert_array_equal(coupled, START)


def test_a_schedule_gives_every_step_its_decay():
    """From step to step: optax 0.2.6 leaves the schedule of its own decay at step 0."""
    schedule = optax.linear_schedule(DECAY, 0.0, STEPS)
    share = lambda t: 1 - t / STEPS
    rate = optax.scale_by_learning_rate(RATE)
    found = chained(rate, add_independent_weight_decay(schedule))
    expected = looped(lambda t, w, u: w - RATE * u - share(t) * DECAY * w)
    np.testing.assert_allclose(found, expected, atol=1e-5)
    found = chained(add_decayed_weights(schedule), rate)
    expected = looped(lambda t, w, u: w - RATE * (u + share(t) * DECAY * w))
    np.testing.assert_allclose(found, expected, atol=1e-5)
    found = chained(add_cautious_weight_decay(schedule), rate)
    expected = looped(
        lambda t, w, u: w - RATE * (u + share(t) * DECAY * np.where(u * w >= 0, w, 0))
    )
    np.testing.assert_allclose(found, expected, atol=1e-5)


@pytest.mark.parametrize(
    ("u", "w", "decays"),
    [(1.0, 2.0, True), (-1.0, -2.0, True), (1.0, -2.0, False), (0.0, 2.0, True)],
)
def test_cautious_decay_applies_where_update_and_weight_have_one_sign_or_the_update_is_zero(
    u, w, decays
):
    u, w = jnp.array([u]), jnp.array([w])
    found = one_step(add_cautious_weight_decay(DECAY), u, w)
    np.testing.assert_array_equal(found, u + DECAY * w if decays else u)


@pytest.mark.parametrize("dtype", ["float16", "float32"])
def test_cautious_decay_compares_signs_of_small_numbers(dtype):
    """1e-4·1e-5 is zero in float16, which would count as agreement."""
    u, w = jnp.array([-1e-4], dtype), jnp.array([1e-5], dtype)
    np.testing.assert_array_equal(one_step(add_cautious_weight_decay(100.0), u, w), u)


def test_cautious_decay_of_complex_weights_takes_the_real_part_of_the_product():
    u, w = (jnp.array(x, jnp.complex64) for x in ([1j, 1j, 1j], [2 + 1j, 2 - 1j, -1 + 2j]))
    found = one_step(add_cautious_weight_decay(DECAY), u, w)
    # conj(i)·W has the real part Im W: 1, -1, 2.
    np.testing.assert_allclose(found, u + DECAY * w * np.array([1, 0, 1]))


def test_a_cautious_step_along_every_weight_is_the_ordinary_decay():
    found = one_step(add_cautious_weight_decay(DECAY), 3 * START, START)
    expected = one_step(optax.add_decayed_weights(DECAY), 3 * START, START)
    np.testing.assert_allclose(found, expected, rtol=1e-6)


@every_decay
@pytest.mark.parametrize("as_function", [False, True])
def test_a_mask_says_which_leaves_decay(decay, as_function):
    params = {"kernel": jnp.ones((2, 3)), "bias": jnp.ones(3)}
    mask = {"kernel": True, "bias": False}
    if as_function:
        mask = lambda p: jax.tree.map(lambda x: x.ndim == 2, p)
    found = one_step(decay(DECAY, mask), params, params)
    np.testing.assert_array_equal(found["bias"], params["bias"])
    expected = one_step(decay(DECAY), params["kernel"], params["kernel"])
    np.testing.assert_array_equal(found["kernel"], expected)
    assert not np.array_equal(found["kernel"], params["kernel"])


@every_decay
@pytest.mark.parametrize("kind", ["number", "schedule", "traced"])
def test_bfloat16_stays_bfloat16_and_is_rounded_once(decay, kind):
    # 1/3 and 0.7 are no bfloat16: rounding λ·W before the sum would show.
    w = jnp.asarray(START, jnp.bfloat16)
    u = jnp.asarray(GRADS[0], jnp.bfloat16)
    amount = {"number": 0.7, "schedule": lambda t: 0.7, "traced": jnp.float32(0.7)}[kind]
    found = one_step(decay(amount), u, w)
    assert found.dtype == jnp.bfloat16
    exact = one_step(decay(0.7), u.astype(jnp.float32), w.astype(jnp.float32))
    np.testing.assert_array_equal(found, exact.astype(jnp.bfloat16))


@every_decay
def test_updates_keep_their_dtype_whatever_the_parameters_have(decay):
    u, w = jnp.asarray(GRADS[0], jnp.float32), jnp.asarray(START, jnp.bfloat16)
    assert one_step(decay(DECAY), u, w).dtype == jnp.float32


@every_decay
def test_float64_decays_by_the_whole_number(decay, x64):
    w = jnp.asarray(START, jnp.float64)
    found = one_step(decay(0.1), w, w)
    sign = -1 if decay is add_independent_weight_decay else 1
    np.testing.assert_allclose(found, (1 + sign * 0.1) * START.astype(float), rtol=1e-15)


@every_decay
@pytest.mark.parametrize(
    "amount", [DECAY, lambda t: DECAY / (t + 1)], ids=["number", "schedule"]
)
def test_a_scan_over_steps_equals_steps_one_by_one(decay, amount):
    tx = decay(amount, {"w": True, "b": False})
    params = {"w": jnp.asarray(START), "b": jnp.ones(2)}
    grads = {"w": jnp.asarray(GRADS), "b": jnp.ones((STEPS, 2))}

    def step(state, g):
        updates, state = tx.update(g, state, params)
        return state, updates

    state, together = jax.lax.scan(step, tx.init(params), grads)
    alone = tx.init(params)
    for t in range(STEPS):
        updates, alone = tx.update({k: g[t] for k, g in grads.items()}, alone, params)
        np.testing.assert_allclose(updates["w"], together["w"][t], atol=1e-6)
    assert jax.tree.map(int, state) == jax.tree.map(int, alone)


@every_decay
def test_the_state_is_a_count_under_a_schedule_and_nothing_under_a_number(decay):
    assert decay(DECAY).init(START) == optax.EmptyState()
    tx = decay(lambda t: DECAY)
    state = tx.init(START)
    assert isinstance(state, DecayState) and state.count.dtype == jnp.int32
    after = tx.update(START, state, START)[1]
    assert (int(state.count), int(after.count)) == (0, 1)


@every_decay
def test_the_decay_may_be_an_injected_hyperparameter(decay):
    tx = optax.inject_hyperparams(decay)(weight_decay=DECAY)
    state = tx.init(START)
    update = jax.jit(tx.update)
    for amount in (DECAY, 0.25):
        state.hyperparams["weight_decay"] = jnp.float32(amount)
        found, state = update(jnp.asarray(GRADS[0]), state, START)
        np.testing.assert_allclose(found, one_step(decay(amount), GRADS[0], START), rtol=1e-6)


@every_decay
def test_a_mask_function_goes_through_injection_if_named_static(decay):
    params = {"kernel": jnp.ones((2, 3)), "bias": jnp.ones(3)}
    mask = lambda p: jax.tree.map(lambda x: getattr(x, "ndim", 0) == 2, p)
    inject = optax.inject_hyperparams(decay, static_args="mask")
    found = one_step(inject(weight_decay=DECAY, mask=mask), params, params)
    np.testing.assert_array_equal(found["bias"], params["bias"])
    with pytest.raises(ValueError, match='pass static_args="mask"'):
        optax.inject_hyperparams(decay)(weight_decay=DECAY, mask=mask).init(params)


@every_decay
def test_a_decay_out_of_range_says_what_to_write(decay):
    for bad in (-0.1, float("nan"), float("inf"), None, "0.1", True):
        with pytest.raises(
            ValueError, match=r"weight_decay=.*; use a number ≥ 0, or a schedule"
        ):
            decay(bad)


@every_decay
@pytest.mark.parametrize("mask", [None, {"w": True}])
def test_an_update_without_parameters_says_what_to_pass(decay, mask):
    tx, params = decay(DECAY, mask), {"w": jnp.ones(3)}
    with pytest.raises(ValueError, match=r"params=None, .*update\(grads, state, params\)"):
        tx.update(params, tx.init(params))


@every_decay
def test_a_bare_boolean_is_not_a_mask(decay):
    with pytest.raises(ValueError, match="mask=True; use a tree of booleans"):
        decay(DECAY, True)


@every_decay
def test_unknown_keyword_arguments_of_update_are_ignored(decay):
    tx = decay(DECAY, {"w": True})
    params = {"w": jnp.ones(3)}
    assert tx.update(params, tx.init(params), params, value=1.0)[0]["w"].shape == (3,)
