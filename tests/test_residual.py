"""The paper's residual: exact polynomials, its table, and what real matrices do."""

from fractions import Fraction

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from reference import matrix_with_spectrum

from muon_optax import NewtonSchulz, theory
from muon_optax._polynomials import binomial_series
from muon_optax.coefficients import taylor

# δ_0, κ → bound/exact χ_q for q = 1, 2, 3, 5, 8, computed independently in float64.
CONSTANT_FACTORS = {
    (0.9, 1): "2.294/2.181 1.705/1.563 1.325/1.207 1.018/1.003 1/1",
    (0.9, 2): "1.921/1.803 1.278/1.182 1.030/1.008 1/1 1/1",
    (0.99, 1): "7.089/6.689 5.038/4.493 3.598/3.045 1.907/1.518 1.04/1.002",
    (0.99, 2): "5.802/5.369 3.400/2.931 2.051/1.690 1.047/1.004 1/1",
    (0.99, 3): "5.038/4.617 2.595/2.212 1.452/1.234 1/1 1/1",
    (0.999, 2): "18.27/16.88 10.56/9.022 6.125/4.851 2.153/1.560 1.001/1",
    (0.9999, 2): "57.74/53.34 33.34/28.45 19.26/15.19 6.454/4.377 1.442/1.061",
    (0.999999, 2): "577.4/533.3 333.3/284.4 192.5/151.7 64.15/43.16 12.37/6.587",
}
STEPS = (1, 2, 3, 5, 8)


def test_constant_factors_equal_the_reference_table():
    for (delta0, kappa), cells in CONSTANT_FACTORS.items():
        expected = [[float(x) for x in cell.split("/")] for cell in cells.split()]
        found = [
            [
                theory.constant_factor(of(delta0, kappa, q))
                for of in (theory.residual_bound, theory.residual)
            ]
            for q in STEPS
        ]
        np.testing.assert_allclose(found, expected, rtol=1e-3, err_msg=f"{delta0}, {kappa}")


@pytest.mark.parametrize("kappa", [1, 2, 8])
def test_the_residual_polynomial_is_one_minus_tau_in_rational_arithmetic(kappa):
    """`1 - (1-u)·p(1-u)²` multiplied out: nothing below u^(κ+1), and the a_s above."""
    p = binomial_series(kappa)
    square = np.convolve(p, p)  # of fractions: exact
    tau = np.convolve([Fraction(1), Fraction(-1)], square)
    phi = [int(i == 0) - t for i, t in enumerate(tau)]
    assert phi == [0] * (kappa + 1) + list(theory.residual_polynomial(kappa))


@pytest.mark.parametrize(
    ("kappa", "expected"),
    [
        (1, "3/4 1/4"),
        (2, "5/8 15/64 9/64"),
        (3, "35/64 7/32 35/256 25/256"),
        (4, "63/128 105/512 135/1024 1575/16384 1225/16384"),
    ],
)
def test_the_residual_polynomial_equals_the_published_one(kappa, expected):
    assert list(theory.residual_polynomial(kappa)) == list(map(Fraction, expected.split()))


def test_the_residual_polynomial_proves_the_bound_on_all_of_the_unit_interval():
    """Positive coefficients that sum to 1: at most `u^(κ+1)` for u in [0, 1]."""
    for kappa in range(1, 13):
        a = theory.residual_polynomial(kappa)
        assert min(a) > 0 and sum(a) == 1


def random_matrices(m, n):
    """Ten, of any rank and scale, and the number of their singular values that are not zero."""
    rng = np.random.default_rng(m + n)
    ranks = rng.integers(1, min(m, n) + 1, size=10)
    ranks[::2] = min(m, n)
    for rank in ranks:
        sigma = np.exp(rng.uniform(-4, 0, rank)) * 10.0 ** rng.integers(-12, 12)
        yield matrix_with_spectrum(rng, m, n, sigma), rank


@pytest.mark.parametrize(("m", "n", "kappa"), [(5, 5, 1), (3, 9, 2), (16, 6, 3), (1, 7, 4)])
def test_one_step_moves_the_residual_of_a_matrix_by_phi(m, n, kappa, x64):
    xs, ranks = zip(*random_matrices(m, n))
    u, sigma, vh = np.linalg.svd(xs, full_matrices=False)
    kept = np.arange(min(m, n)) < np.array(ranks)[:, None]
    polar, norm = (u * kept[:, None]) @ vh, np.linalg.norm(sigma, axis=1)
    delta = 1 - (sigma[range(10), np.array(ranks) - 1] / norm) ** 2
    methods = [NewtonSchulz(f"taylor{kappa}", q) for q in range(1, 6)]
    together = jax.jit(lambda x: [method.polar(x) for method in methods])  # compiled once
    for q, y in enumerate(map(np.asarray, together(jnp.asarray(xs))), start=1):
        expected = [theory.residual(max(d, 0.0), kappa, 1) for d in delta]
        delta = 1 - np.linalg.svd(y, compute_uv=False)[range(10), np.array(ranks) - 1] ** 2
        np.testing.assert_allclose(delta, expected, atol=1e-10)
        error = np.linalg.norm(y - polar, 2, axis=(1, 2))
        exact = [theory.polar_error(max(d, 0.0)) for d in delta]
        np.testing.assert_allclose(error, exact, atol=1e-12 * 3**q)


@pytest.mark.parametrize("kappa", [1, 4, 7])
def test_the_residual_never_exceeds_its_bound(kappa):
    for delta in np.linspace(0, 1, 101):
        for q in (0, 1, 2, 4):
            bound = theory.residual_bound(delta, kappa, q)
            assert theory.residual(delta, kappa, q) <= bound * (1 + 1e-14)


def test_the_residual_agrees_with_the_scalar_map():
    for x in (0.9, 0.3, 1e-2):
        out = theory.scalar_map(taylor(3).schedule(4), x)
        assert theory.polar_error(theory.residual(1 - x * x, 3, 4)) == pytest.approx(1 - out)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: theory.residual(1.5, 2, 1), "delta0=1.5"),
        (lambda: theory.residual(0.5, 0, 1), "kappa=0"),
        (lambda: theory.residual(0.5, 2, -1), "steps=-1"),
        (lambda: theory.residual_bound(float("nan"), 2, 1), "delta0=nan"),
        (lambda: theory.polar_error(-0.1), "delta=-0.1"),
        (lambda: theory.constant_factor(2.0), "delta=2.0"),
    ],
)
def test_a_wrong_argument_is_refused(call, message):
    with pytest.raises(ValueError, match=message):
        call()
