"""What optax, Flax and JAX ask of every transformation, asked of both of ours."""

import chex
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from muon_optax import METHODS, muon, scale_by_muon

KERNELS = {"a": {"kernel": jnp.ones((4, 6))}, "b": {"kernel": jnp.ones((6, 4))}}
MODEL = {**KERNELS, "bias": jnp.ones(6), "norm": {"scale": jnp.ones((2, 4))}}
OPTIMIZERS = {
    "scale_by_muon": (scale_by_muon, {}, KERNELS),
    "muon": (muon, {"learning_rate": 0.1}, MODEL),
    "muon svd, decayed, bf16 momentum": (
        muon,
        {
            "learning_rate": 0.1,
            "method": METHODS["svd"],
            "weight_decay": 0.1,
            "adam_weight_decay": 0.1,
            "mu_dtype": "bfloat16",
        },
        MODEL,
    ),
}

pytestmark = pytest.mark.parametrize("optimizer", OPTIMIZERS)


def grads_of(params, seed=0):
    keys = iter(jax.random.split(jax.random.key(seed), len(jax.tree.leaves(params))))
    return jax.tree.map(lambda p: jax.random.normal(next(keys), p.shape, p.dtype), params)


def steps_by_hand(tx, params, grads):
    state, update = tx.init(params), jax.jit(tx.update)
    for g in grads:
        updates, state = update(g, state, params)
        params = optax.apply_updates(params, updates)
    return params, state


def assert_close(optimizer, found, expected):
    """Equal but for the order of sums: 485·eps (see test_polar), ten times for three steps."""
    stored = "bfloat16" if "bf16" in optimizer else "float32"
    atol = 0.1 * max(4 * float(jnp.finfo(stored).eps), 4850 * float(jnp.finfo("float32").eps))
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, atol=atol), found, expected)


@pytest.mark.device
def test_jit_traces_once_and_donates(optimizer):
    make, settings, params = OPTIMIZERS[optimizer]
    tx = make(**settings)

    traces = []

    def step(params, state, grads):
        traces.append(1)
        updates, state = tx.update(grads, state, params)
        return optax.apply_updates(params, updates), state

    jitted = jax.jit(step, donate_argnums=(0, 1))
    params = jax.tree.map(jnp.copy, params)
    state = tx.init(params)
    for seed in range(3):
        given = params
        params, state = jitted(params, state, grads_of(params, seed))
    assert len(traces) == 1
    assert all(leaf.is_deleted() for leaf in jax.tree.leaves(given))
    assert all(jnp.isfinite(leaf).all() for leaf in jax.tree.leaves(params))


@pytest.mark.device
def test_a_scan_over_steps_equals_the_loop(optimizer):
    make, settings, params = OPTIMIZERS[optimizer]
    tx = make(**settings)
    grads = [grads_of(params, seed) for seed in range(3)]

    def step(carry, g):
        params, state = carry
        updates, state = tx.update(g, state, params)
        return (optax.apply_updates(params, updates), state), None

    stacked = jax.tree.map(lambda *g: jnp.stack(g), *grads)
    (found, state), _ = jax.lax.scan(step, (params, tx.init(params)), stacked)
    expected, state_by_hand = steps_by_hand(tx, params, grads)
    assert_close(optimizer, found, expected)
    chex.assert_trees_all_equal_shapes_and_dtypes(state, state_by_hand)


@pytest.mark.parametrize("dtype", ["bfloat16", "float16"])
def test_state_and_updates_are_fixed_points_of_shape_and_dtype(optimizer, dtype):
    make, settings, params = OPTIMIZERS[optimizer]
    tx = make(**settings)
    params = jax.tree.map(lambda p: p.astype(dtype), params)
    state = tx.init(params)
    either = lambda *given: jax.lax.cond(True, tx.update, lambda g, s, p: (g, s), *given)
    updates, after = jax.eval_shape(either, grads_of(params), state, params)
    chex.assert_trees_all_equal_shapes_and_dtypes(updates, params)
    chex.assert_trees_all_equal_shapes_and_dtypes(after, state)


def test_inject_hyperparams_schedules_every_number(optimizer):
    make, settings, params = OPTIMIZERS[optimizer]
    grads = [grads_of(params, seed) for seed in range(3)]
    injected = optax.inject_hyperparams(make)(**settings)
    expected, _ = steps_by_hand(make(**settings), params, grads)
    found, state = steps_by_hand(injected, params, grads)
    assert_close(optimizer, found, expected)
    assert "beta" in state.hyperparams
    halved = {**settings, "beta": optax.constant_schedule(0.5)}
    found, _ = steps_by_hand(optax.inject_hyperparams(make)(**halved), params, grads)
    expected, _ = steps_by_hand(make(**{**settings, "beta": 0.5}), params, grads)
    assert_close(optimizer, found, expected)


def test_multi_steps_accumulates(optimizer):
    make, settings, params = OPTIMIZERS[optimizer]
    grads = [grads_of(params, seed) for seed in range(4)]
    averaged = [jax.tree.map(lambda a, b: (a + b) / 2, *grads[i : i + 2]) for i in (0, 2)]
    expected, _ = steps_by_hand(make(**settings), params, averaged)
    found, _ = steps_by_hand(optax.MultiSteps(make(**settings), 2), params, grads)
    assert_close(optimizer, found, expected)


def test_masked_and_partition_leave_the_others_alone(optimizer):
    make, settings, params = OPTIMIZERS[optimizer]
    params = {"ours": params, "theirs": {"kernel": jnp.ones((3, 4, 5, 6))}}
    grads = grads_of(params)
    expected, _ = make(**settings).update(
        grads["ours"], make(**settings).init(params["ours"]), params["ours"]
    )
    masked = optax.masked(make(**settings), {"ours": True, "theirs": False})
    found, _ = masked.update(grads, masked.init(params), params)
    assert_close(optimizer, found["ours"], expected)
    np.testing.assert_array_equal(found["theirs"]["kernel"], grads["theirs"]["kernel"])
    split = optax.partition(
        {"muon": make(**settings), "none": optax.set_to_zero()},
        {"ours": "muon", "theirs": "none"},
    )
    found, _ = split.update(grads, split.init(params), params)
    assert_close(optimizer, found["ours"], expected)
    assert not found["theirs"]["kernel"].any()


@pytest.mark.device
def test_apply_if_finite_skips_a_broken_gradient(optimizer):
    make, settings, params = OPTIMIZERS[optimizer]
    tx = optax.apply_if_finite(make(**settings), max_consecutive_errors=3)
    clean = grads_of(params)
    broken = jax.tree.map(lambda g: g.at[(0,) * g.ndim].set(jnp.nan), clean)
    state = tx.init(params)
    updates, state = tx.update(broken, state, params)
    assert not any(leaf.any() for leaf in jax.tree.leaves(updates))
    found, _ = tx.update(clean, state, params)
    expected, _ = make(**settings).update(clean, make(**settings).init(params), params)
    assert_close(optimizer, found, expected)


def test_init_takes_shapes_without_values(optimizer):
    make, settings, params = OPTIMIZERS[optimizer]
    expected = make(**settings).init(params)
    found = jax.eval_shape(make(**settings).init, jax.eval_shape(lambda: params))
    chex.assert_trees_all_equal_shapes_and_dtypes(found, expected)


def test_tree_map_params_finds_the_momentum(optimizer):
    make, settings, params = OPTIMIZERS[optimizer]
    tx = make(**settings)
    state = tx.init(params)
    ones = optax.tree_map_params(tx, jnp.ones_like, state)
    changed = [
        bool((a != b).any())
        for a, b in zip(jax.tree.leaves(ones), jax.tree.leaves(state))
        if a.size
    ]
    assert sum(changed) >= len(jax.tree.leaves(params))


def test_a_restored_run_continues_bit_for_bit(optimizer, tmp_path):
    checkpoint = pytest.importorskip("orbax.checkpoint")
    make, settings, params = OPTIMIZERS[optimizer]
    tx = make(**settings)
    update = jax.jit(tx.update)
    grads = [grads_of(params, seed) for seed in range(6)]

    def advance(params, state, grads):
        for g in grads:
            updates, state = update(g, state, params)
            params = optax.apply_updates(params, updates)
        return params, state

    half = advance(params, tx.init(params), grads[:3])
    with checkpoint.StandardCheckpointer() as checkpointer:
        checkpointer.save(tmp_path / "half", half)
        checkpointer.wait_until_finished()
        restored = checkpointer.restore(tmp_path / "half", jax.tree.map(jnp.zeros_like, half))
    jax.tree.map(np.testing.assert_array_equal, restored, half)
    whole, again = advance(*half, grads[3:]), advance(*restored, grads[3:])
    jax.tree.map(np.testing.assert_array_equal, again, whole)
