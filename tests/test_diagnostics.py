"""Measures of an update: against NumPy, and at the edges."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from reference import numpy_measures, random_isometry

from muon_optax import (
    METHODS,
    diagnostics,
    theory,
)
from muon_optax.diagnostics import MEASURES


def random_matrices(rng, shape, dtype):
    x = rng.standard_normal(shape)
    if np.issubdtype(dtype, np.complexfloating):
        x = x + 1j * rng.standard_normal(shape)
    return x.astype(dtype)


@jax.jit
def measured(g, m, o):
    """Every measure: one program compiles faster than seven."""
    return {name: measure(g, m, o) for name, measure in MEASURES.items()}


def three(dtype, shape=(2, 4, 6)):
    """Gradient, momentum and update, of random numbers."""
    rng = np.random.default_rng(0)
    return [jnp.asarray(rng.standard_normal(shape), dtype) for _ in range(3)]


@pytest.mark.parametrize(
    ("shape", "dtype"),
    [
        ((4, 7), np.float64),
        ((7, 4), np.complex128),
        ((5, 5), np.float64),
        ((1, 6), np.complex128),
    ],
)
def test_a_measure_equals_its_definition(shape, dtype, x64):
    rng = np.random.default_rng(0)
    g, m, o = (random_matrices(rng, (3, *shape), dtype) for _ in range(3))
    for name, got in measured(g, m, o).items():
        expected = [numpy_measures(*matrices)[name] for matrices in zip(g, m, o)]
        np.testing.assert_allclose(got, expected, rtol=1e-12, err_msg=name)


@pytest.mark.parametrize("scale", [1e-30, 1e30])
def test_the_scale_of_the_momentum_does_not_matter(scale):
    g, m, o = three("float32")
    found, expected = measured(scale * g, scale * m, o), measured(g, m, o)
    for name in ("alignment", "polar_error", "momentum_stable_rank", "gradient_cosine"):
        np.testing.assert_allclose(found[name], expected[name], rtol=1e-5, err_msg=name)


def test_a_measure_of_an_update_has_its_unit():
    g, m, o = three("float32")
    small, plain = measured(g, m, 1e-25 * o), measured(g, m, o)
    for name in ("operator_norm", "update_rms"):
        np.testing.assert_allclose(small[name], 1e-25 * plain[name], rtol=1e-5, err_msg=name)


@pytest.mark.parametrize("dtype", ["bfloat16", "float16"])
def test_half_precision_is_measured_in_float32(dtype):
    half = three(dtype)
    exact = measured(*(x.astype("float32") for x in half))
    for name, found in measured(*half).items():
        assert found.dtype == "float32"
        np.testing.assert_allclose(found, exact[name], rtol=1e-5, err_msg=name)


def test_a_zero_momentum_loses_nothing():
    zero = jnp.zeros((2, 4, 6))
    values = measured(zero, zero, zero)
    expected = dict.fromkeys(MEASURES, 0.0) | {"alignment": 1.0, "orthogonality_error": 1.0}
    assert {name: value.tolist() for name, value in values.items()} == {
        name: [value] * 2 for name, value in expected.items()
    }


@pytest.mark.parametrize("bad", [jnp.inf, jnp.nan])
def test_an_entry_that_is_not_finite_affects_its_own_matrix_alone(bad):
    """LAPACK may never return from a matrix with an infinity: this test would not end."""
    good = three("float32")[0]
    broken = good.at[1, 0, 0].set(bad)
    expected = measured(good, good, good)
    for name, found in measured(broken, broken, broken).items():
        assert not np.isfinite(found[1]) and found[0] == expected[name][0], name


@pytest.mark.parametrize("shape", [(0, 3, 4), (2, 0, 4), (2, 3, 0)])
def test_empty_matrices_have_numbers_too(shape):
    empty = jnp.zeros(shape)
    for name, found in measured(empty, empty, empty).items():
        assert np.isfinite(found).tolist() == [True] * shape[0], name


def test_an_isometry_is_orthogonal_and_a_tall_one_too():
    u = jnp.asarray(random_isometry(np.random.default_rng(0), 9, 4, np.float64), jnp.float32)
    for x in (u, u.T):
        assert float(diagnostics.orthogonality_error(x)) < 1e-6


@pytest.mark.parametrize("name", ["taylor2", "jordan"])
def test_no_update_aligns_less_than_its_certificate(name):
    method, rng = METHODS[name], np.random.default_rng(5)
    bound = theory.alignment_bound(method.schedule, 16)
    for power in (0, 1, 3):
        m = rng.standard_normal((8, 16, 32)) * (np.arange(1, 17) ** -float(power))[:, None]
        m = jnp.asarray(m, jnp.float32)
        assert float(diagnostics.alignment(m, method.polar(m)).min()) >= bound - 1e-5


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (
            lambda: diagnostics.alignment(jnp.eye(3), jnp.ones((1, 3))),
            r"the other argument has shape \(3, 3\)",
        ),
        (lambda: diagnostics.polar_error(jnp.eye(3), jnp.ones(3)), "at least two axes"),
        (lambda: diagnostics.cosine(jnp.eye(3), jnp.eye(2)), "the other argument has shape"),
        (lambda: diagnostics.alignment(jnp.zeros(3), jnp.zeros(3)), "at least two axes"),
        (lambda: diagnostics.stable_rank(jnp.zeros((2, 2), int)), "only real or complex"),
    ],
)
def test_a_wrong_argument_is_refused(call, message):
    with pytest.raises(ValueError, match=message):
        call()
