"""A whole step from tiny to huge gradients: nothing depends on the scale, all stays finite."""

from typing import get_args

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from muon_optax import METHODS, DualNorm, NewtonSchulz, muon, scale_by_muon, scale_by_shape
from muon_optax.polar._normalization import Normalization

DTYPES = ["float16", "bfloat16", "float32", "float64", "complex64", "complex128"]
STEPS = 3
FINITE = METHODS | {"with eps": NewtonSchulz(eps=1e-8), "dual norm": DualNorm()}
FINITE |= {norm: NewtonSchulz(normalize=norm) for norm in get_args(Normalization)}


@pytest.fixture(autouse=True)
def wide_types(x64):
    """float64 and complex128 among the dtypes."""


def gradients(dtype, shape=(4, 9)):
    """Of all steps, their largest part 1.75: times the largest power of two, near the end."""
    parts = np.random.default_rng(0).standard_normal((2, STEPS, *shape))
    x = parts[0] + 1j * parts[1] if dtype.startswith("complex") else parts[0]
    return jnp.asarray(1.75 * x / np.abs(parts).max()).astype(dtype)


def run(tx, grads):
    """The updates of all steps in one program, and the last state."""

    def step(state, g):
        updates, state = tx.update(g, state)
        return state, updates

    return jax.jit(lambda gs: jax.lax.scan(step, tx.init(gs[0]), gs))(grads)[::-1]


def wide(x):
    return np.asarray(x).astype("complex128" if jnp.iscomplexobj(x) else "float64")


def largest(dtype):
    return jnp.finfo(dtype).max


def power_below(dtype):
    """The largest power of two that the dtype has."""
    return jnp.asarray(2.0, jnp.finfo(dtype).dtype) ** (jnp.finfo(dtype).maxexp - 1)


@pytest.mark.parametrize(
    ("dtype", "name", "nesterov"),
    [
        *((dtype, "jordan", True) for dtype in DTYPES),
        ("float32", "jordan", False),
        ("bfloat16", "fast", True),
        ("complex64", "svd", True),
    ],
)
def test_updates_of_the_largest_gradients_are_those_of_others_to_the_bit(dtype, name, nesterov):
    """Nesterov's blend, up to 1.5 times as large, saturates at the largest power of two."""
    grads = gradients(dtype)
    power = power_below(dtype) / (2 if nesterov else 1)
    tx = scale_by_muon(METHODS[name], nesterov=nesterov)
    expected, _ = run(tx, grads)
    found, state = run(tx, grads * power)
    np.testing.assert_array_equal(wide(found), wide(expected))
    assert jnp.isfinite(state.mu).all()


@pytest.mark.parametrize("dtype", ["float16", "float32", "complex128"])
def test_entries_at_the_largest_number_are_as_good_as_one(dtype):
    """Where a sum of products may pass it by a rounding."""
    signs = jnp.sign(gradients(dtype).real).astype(dtype)
    tx = scale_by_muon(nesterov=False)
    found, state = run(tx, signs * largest(dtype))
    expected, _ = run(tx, signs)
    # Jordan's five steps grow a rounding error by up to 485; what is stored rounds, too.
    atol = 485 * float(jnp.finfo(jnp.promote_types(dtype, "float32")).eps)
    atol += 485 * float(jnp.finfo(dtype).eps) * (jnp.finfo(dtype).bits < 32) + 1e-12
    np.testing.assert_allclose(wide(found), wide(expected), atol=min(atol, 0.3))
    assert jnp.isfinite(state.mu).all()


@pytest.mark.parametrize("dtype", ["float16", "float32", "complex128"])
def test_updates_of_small_gradients_are_those_of_others_to_the_bit(dtype):
    """As long as a momentum 2⁻⁸ times as large is a normal number."""
    info = jnp.finfo(dtype)
    down = jnp.asarray(2.0, info.dtype) ** (info.minexp + 8 + 6)  # entries within 2⁻⁶ of 1
    grads = gradients(dtype)
    grads = jnp.where(jnp.abs(grads) < 2.0**-5, 0.25, grads).astype(dtype)
    if info.bits == 16:  # products with 2⁻⁵ and less take bits that the exponent has not
        grads = jnp.sign(grads.real).astype(dtype) * jnp.asarray(0.5, dtype)
    tx = scale_by_muon(mu_dtype=None)
    expected, _ = run(tx, grads)
    found, _ = run(tx, grads * down)
    np.testing.assert_array_equal(wide(found), wide(expected))


@pytest.mark.parametrize("dtype", ["float32", "float64", "complex64"])
def test_a_blend_beyond_the_largest_number_becomes_the_largest(dtype):
    """Nesterov's first one is `β·(1-β)/(1-β²)·g + g`, here 1.33 times the gradient."""

    class Unchanged:
        def polar(self, x):
            return x

    tx = scale_by_muon(Unchanged(), 0.5)
    g = jnp.array([[1.0, -1.0, 0.5]], dtype) * largest(dtype)
    blend, _ = tx.update(g, tx.init(g))
    expected = jnp.array([[1.0, -1.0, 2 / 3]], dtype) * largest(dtype)
    np.testing.assert_allclose(blend, expected, rtol=1e-6)


# One method of a kind. The momentum knows no method, so every other momentum needs only one.
KINDS = (
    "jordan",
    "cans",
    "near_exact",
    "svd",
    "with eps",
    "dual norm",
    "aol",
    "spectral",
    "paper",
)
AFTER = [(name, True, False) for name in KINDS]
AFTER += [("jordan", False, True), ("jordan", False, False), ("jordan", True, True)]


@pytest.mark.device
@pytest.mark.parametrize(("name", "bias_correction", "heavy_ball"), AFTER)
def test_finite_gradients_give_finite_updates_and_states(name, bias_correction, heavy_ball):
    rng = np.random.default_rng(0)
    tx = scale_by_muon(FINITE[name], heavy_ball=heavy_ball, bias_correction=bias_correction)
    # Every size of float32 in one matrix, subnormal numbers too, and the largest beside them.
    exponents = rng.uniform(-44, 38.5, (20, 5, 8))
    sizes = np.minimum(10**exponents, float(largest("float32")))
    grads = jnp.asarray(sizes * rng.choice([-1, 1], sizes.shape), "float32")
    updates, state = run(tx, grads)
    assert jnp.isfinite(updates).all() and jnp.isfinite(state.mu).all()


@pytest.mark.parametrize("dtype", ["float16", "float32", "complex64"])
def test_a_whole_muon_stays_finite_at_a_rate_of_one(dtype):
    """Behind the polar step a factor of the shape and the decay make numbers larger still."""
    w = jnp.full((4, 16), largest(dtype), dtype)
    tx = muon(1.0, DualNorm(), weight_decay=2.0, dims="in out")
    updates, _ = jax.jit(tx.update)(w, tx.init(w), w)
    np.testing.assert_array_equal(wide(updates), -float(largest(dtype)))
    alone = scale_by_shape()
    found, _ = alone.update(w, alone.init(w))
    np.testing.assert_array_equal(wide(found), float(largest(dtype)))


def test_a_factor_above_one_takes_infinity_for_an_overflow_and_keeps_nan():
    x, tx = jnp.array([[jnp.inf, -jnp.inf, jnp.nan, 1.0]], "float32"), scale_by_shape()
    found, _ = tx.update(x, tx.init(x))
    np.testing.assert_array_equal(found, [[largest("float32"), -largest("float32"), np.nan, 2]])


@pytest.mark.parametrize("dtype", ["float16", "bfloat16"])
def test_a_momentum_beyond_its_dtype_is_kept_as_the_largest(dtype):
    g = jnp.full((2, 3), -3.4e38, "float32").at[0, 0].set(1.0)
    tx = scale_by_muon(mu_dtype=dtype, heavy_ball=True)
    _, state = tx.update(g, tx.init(g))
    assert state.mu.dtype == dtype and state.mu[0, 0] == 1
    assert (state.mu.ravel()[1:] == -largest(dtype)).all()


@pytest.mark.parametrize("poison", [float("inf"), float("-inf"), float("nan")])
def test_a_momentum_that_is_infinite_stays_so(poison):
    """Saturation is for what was finite: else a broken run would look like a sound one."""
    g = jnp.ones((2, 3), "float32").at[1, 1].set(poison)
    tx = scale_by_muon()
    _, state = tx.update(g, tx.init(g))
    np.testing.assert_array_equal(state.mu[1, 1], poison)
    assert int(jnp.isfinite(state.mu).sum()) == 5


def test_a_float32_model_is_orthogonalized_in_float32_where_float64_exists_too():
    class Seen:
        def polar(self, x):
            dtypes.append(x.dtype)
            return x

    dtypes = []
    for nesterov in (True, False):
        tx = scale_by_muon(Seen(), nesterov=nesterov)
        run(tx, gradients("float32"))
    assert dtypes and set(dtypes) == {jnp.dtype("float32")}


def test_rows_whose_squares_vanish_do_not_blow_up_the_others():
    """A row of 1e-19 times the largest entry: half of its squares are 0 in float32."""
    x = jnp.zeros((2, 8), "float32").at[0, 0].set(1.0)
    x = x.at[1, 1:].set(5e-20 * jnp.array([1.2, 1, 1, 1, 1, 1, 1], "float32"))
    found = NewtonSchulz("polar_express", 8, "aol").polar(x)
    assert np.linalg.norm(found, 2) == pytest.approx(1.0, abs=1e-2)


def test_a_small_gradient_still_feels_an_eps():
    """What is added to the norm is in units of the gradient, whatever is scaled inside."""
    x = gradients("float32")[0]
    tx = scale_by_muon(NewtonSchulz(eps=1.0), nesterov=False)
    found, _ = tx.update(x, tx.init(x))
    np.testing.assert_allclose(found, NewtonSchulz(eps=1.0).polar(x), atol=485 * 1.2e-7)


@pytest.mark.parametrize(
    ("name", "heavy_ball", "bias_correction", "beta"),
    [
        ("jordan", False, True, 0.999),
        ("jordan", True, False, 0.5),
        ("jordan", True, True, 0.95),
        ("dual norm", False, True, 0.999),
    ],
)
def test_the_largest_gradients_may_turn_round(name, heavy_ball, bias_correction, beta):
    """Then a blend has terms beyond the largest number, of either sign."""
    method, options = FINITE[name], {"heavy_ball": heavy_ball}
    tx = scale_by_muon(method, beta, bias_correction=bias_correction, **options)
    top = jnp.eye(3, dtype="float32") * largest("float32")
    updates, state = run(tx, jnp.stack([top, top, -0.5 * top, -top, top]))
    assert jnp.isfinite(updates).all() and jnp.isfinite(state.mu).all()
    assert updates[0].any()


@pytest.mark.parametrize("beta", [np.float64(0.9), "array", 0.9])
def test_no_beta_widens_what_is_orthogonalized(beta):
    class Seen:
        def polar(self, x):
            assert x.dtype == "float32"
            return x

    beta = jnp.asarray(0.9, "float64") if isinstance(beta, str) else beta
    run(scale_by_muon(Seen(), beta), gradients("float32"))


def test_a_dual_norm_fits_into_its_parameters_dtype():
    g = jnp.clip(2e4 * jax.random.normal(jax.random.key(0), (64, 64)), -6e4, 6e4)
    updates, _ = run(scale_by_muon(DualNorm()), g.astype("float16")[None])
    assert updates.dtype == "float16" and jnp.isfinite(updates).all()


def test_dual_norms_beyond_the_largest_number_become_that():
    x = jnp.diag(jnp.asarray([3e38, 3e38, 1e38], "float32"))
    found = DualNorm(METHODS["svd"]).polar(x)
    np.testing.assert_allclose(found, jnp.eye(3) * largest("float32"), rtol=1e-6)
    np.testing.assert_allclose(
        DualNorm(METHODS["svd"]).polar(x / 4), jnp.eye(3) * 1.75e38, rtol=1e-5, atol=1e32
    )


def test_float16_gradients_of_any_size_move_a_whole_model():
    """‖g‖_F passes 65504, and g² the smallest number, long before g does."""
    params = {"kernel": jnp.ones((16, 16), "float16"), "bias": jnp.ones(16, "float16")}
    tx = muon(0.1, adam_learning_rate=0.1)
    update = jax.jit(tx.update)
    for scale in (3e4, 1e-4):
        grads = {
            "kernel": gradients("float16", (16, 16))[0] * scale,
            "bias": jnp.zeros(16, "float16"),
        }
        updates, _ = update(grads, tx.init(params), params)
        singular = np.linalg.svd(wide(updates["kernel"]), compute_uv=False)
        assert updates["kernel"].dtype == "float16" and 0.07 < np.median(singular) < 0.13
        assert not updates["bias"].any()
