"""The normalizations before the first step: their divisors, their laws and their gradients."""

from dataclasses import replace
from typing import get_args

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from reference import matrices_of_spectra, singular_values, wide
from tolerances import tolerance

from muon_optax import NewtonSchulz
from muon_optax.coefficients import Coefficients, taylor
from muon_optax.polar._normalization import Normalization

NORMALIZATIONS = get_args(Normalization)
IDENTITY = Coefficients("identity", ((1.0,),), "repeat", "test")


@pytest.fixture(autouse=True)
def wide_types(x64):
    """float64 and complex128 among the dtypes; the others stay what they are."""


@pytest.mark.parametrize(
    ("normalize", "dtype"),
    [("schatten4", "complex64"), ("aol", "complex64"), ("spectral", "float32")],
)
def test_other_normalisations_obey_the_laws_too(normalize, dtype):
    method = NewtonSchulz("jordan", 5, normalize=normalize)
    x = matrices_of_spectra((5, 12), dtype)[0]
    y = method.polar(x)
    np.testing.assert_array_equal(method.polar(x * 2.0**-90)[:5], y[:5])
    np.testing.assert_allclose(method.polar(x.mT), y.mT, atol=tolerance(method, dtype))
    np.testing.assert_allclose(method.polar(x[2]), y[2], atol=tolerance(method, dtype))


def test_normalisation_divides_by_what_it_says():
    x = np.random.default_rng(0).standard_normal((4, 6)) * 0.3
    sigma = singular_values(x)
    norms = {
        "frobenius": np.linalg.norm(sigma),
        "schatten4": (sigma**4).sum() ** 0.25,
        "spectral": sigma.max(),
    }
    for scale in (1.0, 1e-3):  # either side of the paper's max(1, ·)
        divisors = {name: scale * norm for name, norm in norms.items()}
        divisors["paper"] = max(1.0, divisors["frobenius"])
        for name, divisor in divisors.items():
            found = NewtonSchulz(IDENTITY, 1, normalize=name).polar(jnp.asarray(scale * x))
            np.testing.assert_allclose(found, scale * x / divisor, rtol=1e-14, err_msg=name)


def test_aol_bounds_the_norm_and_keeps_zero_rows():
    x = np.random.default_rng(0).standard_normal((4, 6)) * np.array([[1e-3], [1], [10], [0]])
    y = np.asarray(NewtonSchulz(IDENTITY, 1, normalize="aol").polar(jnp.asarray(x)))
    rows = np.abs(x @ x.T).sum(axis=1, keepdims=True)
    np.testing.assert_allclose(y, x / np.sqrt(np.where(rows > 0, rows, 1)), rtol=1e-13)
    assert singular_values(y).max() <= 1 + 1e-12


def test_eps_is_added_to_the_norm_in_units_of_the_input():
    x = jnp.asarray(np.random.default_rng(0).standard_normal((4, 6)))
    for scale in (1e-6, 1.0, 1e6):
        found = NewtonSchulz(IDENTITY, 1, eps=1e-3).polar(scale * x)
        norm = jnp.linalg.norm(scale * x) + 1e-3
        np.testing.assert_allclose(found, scale * x / norm, rtol=1e-13)


@pytest.mark.parametrize("dtype", ["float32", "complex64"])
def test_zero_stays_zero(dtype):
    for normalize in NORMALIZATIONS:
        zero = jnp.zeros((7, 5, 12), dtype)
        assert not NewtonSchulz(normalize=normalize).polar(zero).any(), normalize


@pytest.mark.parametrize("normalize", NORMALIZATIONS)
def test_gradients_are_finite_at_zero(normalize):
    method = NewtonSchulz("jordan", 1, normalize=normalize)
    slope = jax.grad(lambda x: method.polar(x).sum())(jnp.zeros((3, 4), "float32"))
    assert jnp.isfinite(slope).all() and (slope != 0).all()


@pytest.mark.parametrize("normalize", NORMALIZATIONS)
def test_gradients_equal_finite_differences(normalize):
    """The power-of-two scale is constant between its jumps and must not be differentiated."""
    method = NewtonSchulz(taylor(2), 1, normalize=normalize)
    x, direction = jax.random.normal(jax.random.key(0), (2, 3, 5))
    weights = jax.random.normal(jax.random.key(1), (3, 5))
    _, slope = jax.jvp(lambda x: (weights * method.polar(x)).sum(), (x,), (direction,))
    h = 1e-6
    ends = [(weights * method.polar(x + s * h * direction)).sum() for s in (1, -1)]
    assert float(slope) == pytest.approx(float(ends[0] - ends[1]) / (2 * h), rel=1e-6)


@pytest.mark.device
def test_half_input_is_normalised_before_it_is_cast():
    """A matrix whose norm overflows float16 is orthogonalized all the same."""
    x = jax.random.normal(jax.random.key(0), (256, 256), "float16")
    assert jnp.isinf(jnp.sqrt(jnp.sum(x * x)))
    found = singular_values(wide(NewtonSchulz("jordan", 8).polar(x)))
    assert np.median(found) > 0.6 and found.max() < 1.25


@pytest.mark.device
@pytest.mark.parametrize("normalize", ["frobenius", "schatten4", "aol"])
def test_float16_products_survive_what_float16_cannot_hold(normalize):
    """Rows of 1e-6, and entries of 1/m: factors that would leave float16 as they are."""
    method = NewtonSchulz("taylor2", 2, normalize, compute_dtype="float16")
    exact = replace(method, compute_dtype="float32")
    for x in (jnp.diag(jnp.array([1.0, 1e-4, 1e-6])), jnp.full((512, 512), 3.99)):
        x = x.astype("float32")
        unit = x[0] / jnp.linalg.norm(x[0])  # the first singular vector, left and right
        found, expected = (float(unit @ m.polar(x) @ unit) for m in (method, exact))
        assert found == pytest.approx(expected, abs=0.02)
