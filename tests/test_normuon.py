"""NorMuon's second moment: against its formula, on logical matrices, in every dtype."""

from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from muon_optax import (
    FLAX,
    MuonDimensionNumbers,
    muon,
    partition_matrices,
    scale_by_muon,
    scale_by_neuron_rms,
    scale_by_shape,
)
from muon_optax.compat import RoundedNewtonSchulz

GOLDEN = dict(np.load(Path(__file__).parent / "data" / "parity_golden.npz"))


def by_formula(updates, b2=0.95, eps=1e-10):
    """Of a sequence of matrices `[fan_in, fan_out]`, in float64."""
    v, scaled = 0.0, []
    for o in np.asarray(updates, np.float64):
        v = b2 * v + (1 - b2) * (o**2).mean(0)
        each = o / (np.sqrt(v) + eps)
        scaled.append(each * np.linalg.norm(o) / np.linalg.norm(each))
    return scaled


def run(tx, updates):
    state, scaled, update = tx.init(updates[0]), [], jax.jit(tx.update)
    for u in updates:
        u, state = update(u, state)
        scaled.append(u)
    return scaled, state


@pytest.mark.parametrize(("shape", "b2"), [((4, 6), 0.0), ((6, 4), 0.95)], ids=str)
def test_ten_steps_equal_the_formula(shape, b2):
    updates = np.random.default_rng(0).standard_normal((10, *shape)).astype(np.float32)
    found, _ = run(scale_by_neuron_rms(b2), jnp.asarray(updates))
    np.testing.assert_allclose(found, by_formula(updates, b2), rtol=1e-5, atol=1e-6)
    inputs = np.stack(by_formula(updates.swapaxes(1, 2), b2)).swapaxes(1, 2)
    for wrong in (by_formula(updates, b2 + 0.04), inputs, updates):
        assert np.abs(np.subtract(found, wrong)).max() > 1e-2


def test_eps_limits_the_update_of_a_column_near_zero():
    o = jnp.array([[1.0, 1e-6], [1.0, 1e-6]])
    found, _ = run(scale_by_neuron_rms(0.0, eps=1e-3), [o])
    np.testing.assert_allclose(found[0], by_formula([o], 0.0, 1e-3)[0], rtol=1e-5)


@pytest.mark.parametrize("scale", [1e-30, 1e30])
def test_updates_of_any_size_are_scaled_alike_and_leave_a_finite_state(scale):
    """Squares in float32 end at 1e-45 and 3e38."""
    updates = jax.random.normal(jax.random.key(0), (2, 4, 6)) * jnp.arange(1.0, 7)
    tx = scale_by_neuron_rms(eps=1e-37)
    found, state = run(tx, [updates[0] * scale, updates[1]])
    assert np.isfinite(state.nu).all() and np.isfinite(found).all()
    norm = np.linalg.norm(np.asarray(updates[0], np.float64))
    np.testing.assert_allclose(np.linalg.norm(found[0] / scale), norm, rtol=1e-5)
    assert np.asarray(found[1]).any()


def test_a_norm_beyond_the_largest_number_saturates():
    o = jnp.full((2, 2), jnp.finfo("float16").max, "float16").at[0, 0].set(0)
    (first, second), _ = run(scale_by_neuron_rms(), [o, o[::-1]])
    assert np.isfinite(first).all() and np.isfinite(second).all()


def test_b2_can_be_injected_next_to_the_default_eps():
    o = jnp.array([[1.0, 2.0], [3.0, 4.0]])
    found, _ = run(optax.inject_hyperparams(scale_by_neuron_rms)(b2=0.5), [o, 2 * o])
    expected, _ = run(scale_by_neuron_rms(b2=0.5), [o, 2 * o])
    np.testing.assert_array_equal(found, expected)


def test_every_part_of_a_fused_leaf_has_its_own_moment_and_norm():
    dims = "layers in out[q=4 kv=2]"
    updates = np.random.default_rng(1).standard_normal((5, 3, 7, 6)).astype(np.float32)
    found, state = run(scale_by_neuron_rms(dims=dims), jnp.asarray(updates))
    assert [v.shape for v in state.nu] == [(3, 1, 4), (3, 1, 2)]
    for layer in range(3):
        for part in (slice(0, 4), slice(4, 6)):
            expected = by_formula(updates[:, layer, :, part])
            np.testing.assert_allclose(
                np.stack(found)[:, layer, :, part], expected, rtol=1e-5, atol=1e-6
            )


@pytest.mark.parametrize("dtype", ["float16", "bfloat16", "float32", "complex64"])
def test_updates_keep_their_dtype_and_norm_and_the_state_is_a_fixed_point(dtype):
    o = {"w": jax.random.normal(jax.random.key(0), (5, 4)).astype(dtype)}
    tx = scale_by_neuron_rms()

    def step(state, _):
        updates, state = tx.update(o, state)
        return state, updates

    state, updates = jax.lax.scan(step, tx.init(o), None, length=3)
    assert updates["w"].dtype == jnp.dtype(dtype)
    assert jax.tree.leaves(state)[0].dtype == jnp.float32
    norms = jnp.linalg.norm(updates["w"].astype("complex64"), axis=(1, 2))
    expected = jnp.linalg.norm(o["w"].astype("complex64"))
    rtol = 8 * float(jnp.finfo(dtype).eps)
    np.testing.assert_allclose(norms, [expected] * 3, rtol=rtol)


@pytest.mark.parametrize("shape", [(0, 4), (4, 0)], ids=str)
def test_an_empty_leaf_comes_back(shape):
    found, state = run(scale_by_neuron_rms(), [jnp.zeros(shape)] * 2)
    assert found[0].shape == shape and np.all(np.isfinite(jax.tree.leaves(state)[0]))


def test_zero_stays_zero():
    found, state = run(scale_by_neuron_rms(), [jnp.zeros((3, 4))] * 2)
    assert not np.any(found) and not np.any(state.nu)


def test_it_chains_into_a_whole_model():
    """Where every column has the same norm, nothing changes but rounding."""
    chain = lambda *between: partition_matrices(
        lambda dims: optax.chain(
            scale_by_muon(dims=dims),
            *(make(dims=dims) for make in between),
            scale_by_shape(dims=dims),
            optax.scale_by_learning_rate(0.1),
        ),
        fallback=optax.adamw(1e-3, weight_decay=0.0),
    )
    params = {"up": {"kernel": jnp.eye(4), "bias": jnp.ones(4)}, "head": {"kernel": jnp.eye(4)}}
    found = []
    for tx in (chain(), chain(scale_by_neuron_rms), muon(0.1, adam_learning_rate=1e-3)):
        found.append(jax.jit(tx.update)(params, tx.init(params), params)[0])
    for other in found[1:]:
        jax.tree.map(
            lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-7), found[0], other
        )


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: scale_by_neuron_rms(1.0), r"b2=1.0; use a number in \[0, 1\)"),
        (lambda: scale_by_neuron_rms(eps=0.0), "eps=0.0; use a number > 0"),
        (
            lambda: scale_by_neuron_rms(dims=FLAX).init({"bias": jnp.ones(3)}),
            "'bias'.*this leaf is not a matrix",
        ),
        (
            lambda: partition_matrices(
                lambda dims: scale_by_muon(dims=dims),
                optax.sgd(0.1),
                MuonDimensionNumbers(0, 2),
            ).init(jnp.ones((2, 3))),
            "axes that do not exist",
        ),
        (
            lambda: partition_matrices(lambda dims: optax.identity(), optax.sgd(0.1)).init(
                {"bias": jnp.ones(3)}
            ),
            "no matrix to train",
        ),
    ],
)
def test_bad_arguments_say_what_to_write(make, message):
    with pytest.raises(ValueError, match=message):
        make()


@pytest.mark.parametrize(("shape", "layout"), [("wide", "torch"), ("tall", "flax")])
def test_six_steps_equal_normuons_own(shape, layout):
    """As many roundings of bfloat16 as Keller Jordan's Muon, see test_compat_modes."""
    turn = (lambda x: x.swapaxes(-2, -1)) if layout == "flax" else np.asarray
    start, grads, expected = (turn(GOLDEN[f"{shape}/{key}"]) for key in ("W0", "G", "normuon"))
    dims = "in out" if layout == "flax" else "out in"

    def deviation(b2=0.95, decay=0.1, axes=dims):
        tx = optax.chain(
            scale_by_muon(RoundedNewtonSchulz("keller"), bias_correction=False, dims=dims),
            scale_by_neuron_rms(b2, dims=axes),
            scale_by_shape(dims=dims),
            optax.add_decayed_weights(decay),
            optax.scale_by_learning_rate(0.02),
        )
        w, state, worst = jnp.asarray(start), tx.init(jnp.asarray(start)), 0.0
        for g, e in zip(grads, expected):
            updates, state = tx.update(jnp.asarray(g), state, w)
            w = optax.apply_updates(w, updates)
            worst = max(worst, np.abs(w - e).max())
        return worst

    assert deviation() < 3.2e-4
    other = {"in out": "out in", "out in": "in out"}[dims]
    assert min(deviation(b2=0.0), deviation(decay=0.0), deviation(axes=other)) > 1e-3
