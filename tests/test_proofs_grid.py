"""The inequalities of one variable in docs/proofs*.md, on grids dense at the ends.

Each is tight: an equality somewhere, or false with a smaller constant, as the test shows.
"""

from fractions import Fraction

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy.optimize import minimize_scalar
from test_proofs import EPS, at_most, equal

from benchmarks.convergence.problems import Robust
from muon_optax import METHODS, SVD, scale_by_muon, theory
from muon_optax.coefficients import taylor
from muon_optax.theory import Momentum, Problem

NEAR = np.geomspace(1e-16, 0.5, 500)
UNIT = np.concatenate([[0.0], NEAR, 1 - NEAR[::-1], [1.0]])
HALVES = np.linspace(0.5, 1, 26)[:, None]  # p/2


@pytest.mark.parametrize("kappa", [1, 2, 3, 8])
def test_the_residual_polynomial_is_below_its_leading_power(kappa):
    """In rational arithmetic, to 2^-60 from both ends: all of it at 1, the share a_0 at 0."""
    a, ends = theory.residual_polynomial(kappa), [Fraction(1, 2**k) for k in range(1, 61)]
    grid = [*(Fraction(k, 64) for k in range(65)), *ends, *(1 - end for end in ends)]
    share = [sum(c * u**s for s, c in enumerate(a)) for u in grid]  # φ(u)/u^(κ+1)
    assert all(a[0] <= part <= 1 for part in share)
    assert (share[0], share[64]) == (a[0], 1)
    for u, part in zip(grid, share):
        found, exact = theory.residual(float(u), kappa, 1), float(part * u ** (kappa + 1))
        rounding = 4 * (kappa + 1) * EPS
        assert found == pytest.approx(exact, rel=rounding, abs=0)
        assert found <= theory.residual_bound(float(u), kappa, 1) * (1 + rounding)


@pytest.mark.parametrize(
    ("kappa", "slope"), [(1, 3 / 2), (2, 15 / 8), (3, 35 / 16), (4, 315 / 128)]
)
def test_a_step_multiplies_a_singular_value_by_at_most_the_slope(kappa, slope):
    """`p(0)`, the sum of the c_s; small ones by no less."""
    for steps in (1, 3):
        growth = theory.scalar_map(taylor(kappa).schedule(steps), UNIT[1:]) / UNIT[1:]
        at_most(growth, slope**steps)
        assert growth.max() >= slope**steps * (1 - 1e-12)


@pytest.mark.parametrize(("name", "rank"), [("jordan", 16), ("fast", 64), ("taylor2", 8)])
def test_the_certified_line_is_below_the_map_and_a_higher_one_is_not(name, rank):
    """`x·P(x) ≥ b·x - ν·(1/r - x⁴)` on [0, 1] with the best ν ≥ 0: b is known to 2e-6."""
    schedule, x = METHODS[name].schedule, np.unique([*UNIT, *np.geomspace(1e-6, 1, 40_000)])
    b, kept = (
        theory.alignment_bound(schedule, rank, "schatten4"),
        theory.scalar_map(schedule, x),
    )
    for height, holds in ((b - 4e-6, True), (b + 2e-5, False)):
        below = lambda nu, b=height: -(x * (kept - b) + nu * (1 / rank - x**4)).min()
        best = minimize_scalar(below, bounds=(0, 8), options={"xatol": 1e-12})
        assert (best.fun <= 0) == holds


def test_the_mean_of_powers_is_at_most_the_power_of_the_mean():
    """`(1+t)^(p/2) + (1-t)^(p/2) ≤ 2`: equal at 0 and of p = 2, false of a larger p."""
    sums = lambda power: (1 + UNIT) ** power + (1 - UNIT) ** power
    at_most(sums(HALVES), 2)
    equal(sums(HALVES)[:, 0], 2)
    assert (sums(1.01) > 2).any()


def test_the_power_of_a_sum_is_at_most_the_sum_of_powers():
    """`(1+t)^(p/2) ≤ 1 + t^(p/2)`: equal at 0 and of p = 2, false of a larger p."""
    at_most((1 + UNIT) ** HALVES, 1 + UNIT**HALVES)
    equal(1 + UNIT[0] ** HALVES, 1)
    assert ((1 + UNIT) ** 1.01 > 1 + UNIT**1.01).any()


def test_nesterovs_noise_is_never_less_and_no_more_at_both_ends():
    """`1 ≤ 1 + 2β - 2β³`; how large it gets between is in test_runs.py."""
    betas = UNIT[UNIT < 1 - 1e-9]
    noise = [[Momentum(b, n).moments(2, 1)[0] for b in betas] for n in (False, True)]
    ratio, rounding = noise[1] / np.array(noise[0]), 4 * EPS / (1 - betas)
    assert (ratio >= 1 - rounding).all()
    assert (abs(ratio - (1 + 2 * betas - 2 * betas**3)) <= rounding).all()
    assert ratio[0] == 1 and ratio[-1] == pytest.approx(1, abs=1e-7)


def test_the_longest_step_of_sgd_is_the_longest_whose_terms_cancel():
    """`β²·u²/(1-β)² ≤ 1 - u` for `u = L_F·η/(1-β) ≤ 1-β`; false of 1.01 times as much."""
    beta, share = UNIT[:-1, None], UNIT
    at_most(beta**2 * share**2, 1 - share * (1 - beta), 1)
    longer = beta**2 * 1.01**2 > 1 - 1.01 * (1 - beta)
    assert longer[0] and longer[-1]
    p = Problem(L=2.0, D=1.0, sigma=0.0, r=4, T=10)
    for b in (0.0, 0.2, 0.99):
        assert theory.sgdm_bound(p, (1 - b) ** 2 / 2, b) > 0
        with pytest.raises(ValueError, match="the bound holds for"):
            theory.sgdm_bound(p, 1.01 * (1 - b) ** 2 / 2, b)


def test_the_robust_loss_has_the_slope_and_the_curvature_that_its_constants_say():
    """`ρ(z) = z²/(1+z²)`: `ρ'² ≤ 27/64`, at 1/√3, and `|ρ''| ≤ 2`, at 0."""
    loss = Robust(jnp.ones((1, 1)), jnp.zeros((1, 1)))
    constants = loss.constants(jnp.ones((1, 1)), 1, 1)
    z = np.float32([*np.linspace(-9, 9, 4001), *np.geomspace(1e-6, 1e6, 1001)])[None]
    slopes = jax.grad(loss.value)
    both = jax.jit(lambda z: jax.jvp(slopes, [z], [jnp.ones_like(z)]))
    largest = [float(abs(x).max()) for x in both(z)]
    assert largest == pytest.approx([constants.sigma, constants.L], rel=1e-5)


def test_no_schedule_lowers_the_loss_between_two_kinks_below_half_its_sum():
    """Section 10: steepest descent keeps the sum, 2.7; with β = 0.95 it does not."""
    f = lambda w: abs(w[0, 0] - w[1, 1]) + abs(w[0, 0] + w[1, 1]) / 2

    def lowest(etas, beta):
        tx = scale_by_muon(SVD(), beta=beta)

        def step(carry, eta):
            w, state = carry
            update, state = tx.update(jax.grad(f)(w), state)
            w = w - eta * update
            return (w, state), f(w)

        w = jnp.diag(jnp.array([2.0, 0.7]))
        return jax.lax.scan(step, (w, tx.init(w)), etas)[1].min()

    etas = np.random.default_rng(0).uniform(0, 1, (200, 12)).astype("float32")
    etas[0, 0] = 0.65  # to the lowest point at once
    exact, averaged = jax.jit(jax.vmap(lambda etas: (lowest(etas, 0.0), lowest(etas, 0.95))))(
        etas
    )
    rounding = 100 * float(jnp.finfo("float32").eps)
    assert 1.35 - rounding <= exact.min() <= 1.35 + rounding
    assert averaged.min() < 1


def test_a_number_and_its_inverse_over_r_have_at_least_the_mean_of_the_flat_spectrum():
    """`½(x + 1/(rx)) ≥ 1/√r`, and equal only at `x = 1/√r`; twice over, with u and v."""
    x = np.geomspace(1e-6, 1, 4001)
    for r in (1, 2, 7, 768):
        means = (x + 1 / (r * x)) / 2
        assert (means >= r**-0.5 * (1 - 4 * EPS)).all()
        assert (means >= r**-0.5 * 1.001).any() and means.min() < r**-0.5 * 1.001


def test_a_square_of_a_sum_is_split_by_any_share():
    """`(1 + z)² ≤ 1/β + z²/(1-β)`, equal at `z = (1-β)/β`; a hundredth less fails there."""
    z = np.geomspace(1e-4, 1e4, 2001)
    for beta in (0.05, 0.5, 0.95):
        right = 1 / beta + z**2 / (1 - beta)
        assert ((1 + z) ** 2 <= right * (1 + 4 * EPS)).all()
        equal = (1 - beta) / beta
        assert (1 + equal) ** 2 > 0.99 * (1 / beta + equal**2 / (1 - beta))
