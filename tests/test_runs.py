"""Bounds for Nesterov's step, weight decay, schedules and heavy tails: terms, limits, runs."""

import math
from dataclasses import replace

import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from test_bounds import BETA, PROBLEM

from benchmarks import convergence
from benchmarks.convergence import leaves, nesterov, spectra, starts, warm_start
from benchmarks.convergence.features import ALL, CASES, compare
from benchmarks.convergence.problems import make
from muon_optax import theory
from muon_optax.coefficients import taylor
from muon_optax.theory import Certificate, Momentum, Problem, Run

BETAS = st.lists(st.floats(0, 0.99), min_size=1, max_size=12)


def weights(betas, nesterov):
    """`c[t, k]`, the weight of gradient k in step t, by the definition of the momentum."""
    steps, c = len(betas), np.zeros((len(betas), len(betas)))
    plain = np.zeros(steps)
    for t, beta in enumerate(betas):
        newest = np.eye(steps)[t]
        plain = beta * plain + (1 - beta) * newest
        c[t] = beta * plain + (1 - beta) * newest if nesterov else plain
    return c


@given(BETAS, st.booleans(), st.floats(1.01, 2), st.data())
def test_a_momentum_s_sums_are_those_of_its_weights(betas, nesterov, p, data):
    steps, momentum = len(betas), Momentum(betas, nesterov)
    lengths = data.draw(st.lists(st.floats(0, 10), min_size=steps, max_size=steps))
    c = weights(betas, nesterov)
    missing = 1 - c.sum(1)
    np.testing.assert_allclose(momentum.missing(steps), missing, atol=1e-12)
    np.testing.assert_allclose(momentum.moments(p, steps), (c**p).sum(1), rtol=1e-9)
    # The gradient of step k is behind by the moves of the steps k to t - 1; what is missing, by
    # all before t.
    behind = [
        sum(lengths[j] * (missing[t] + c[t, : j + 1].sum()) for j in range(t))
        for t in range(steps)
    ]
    np.testing.assert_allclose(momentum.lags(lengths), behind, rtol=1e-9, atol=1e-11)


@given(BETA, st.booleans(), st.floats(1.01, 2), st.integers(1, 20))
def test_a_constant_s_sums_bound_every_run_s_and_are_their_limits(beta, nesterov, p, steps):
    forever, run = Momentum(beta, nesterov), Momentum([beta] * steps, nesterov)
    ones, above = np.ones(steps), 1 + 1e-12
    assert (run.lags(ones) <= forever.lags(ones) * above).all()
    assert (run.moments(p, steps) <= forever.moments(p, steps) * above).all()
    assert run.missing(steps).sum() <= forever.missing(steps).sum() * above
    long = int(40 / (1 - beta))
    long_run = Momentum([beta] * long, nesterov)
    np.testing.assert_allclose(
        long_run.lags(np.ones(long))[-1], forever.lags(ones)[0], rtol=1e-9
    )
    np.testing.assert_allclose(
        long_run.moments(p, long)[-1], forever.moments(p, 1)[0], rtol=1e-9
    )
    np.testing.assert_allclose(
        long_run.missing(long).sum(), forever.missing(steps).sum(), rtol=1e-9
    )


@settings(deadline=None)
@given(PROBLEM, BETA, st.floats(1e-3, 1), st.floats(1, 2), st.floats(1e-6, 1))
def test_a_constant_run_has_the_bound_that_is_written_down(problem, beta, a, s, eta):
    """Of docs/theory.md, section 4, with and without Nesterov's step."""
    p = problem
    for factor, noise, blended in ((1, 1, False), (beta, 1 + 2 * beta - 2 * beta**3, True)):
        drift = factor * beta * p.L * eta * s / (1 - beta)
        start = factor * beta * math.sqrt(2 * p.L * p.D) / (p.T * (1 - beta))
        variance = noise * (1 - beta) / (1 + beta) * p.r / p.B
        mismatch = drift + math.sqrt(variance) * p.sigma + start
        expected = (p.D / (p.T * eta) + p.L * eta / 2 * s**2 + (a + s) * mismatch) / a
        found = theory.bound(p, Run(eta, Momentum(beta, blended)), Certificate(a, s)).total
        assert found == pytest.approx(expected, rel=1e-12)


@settings(deadline=None, max_examples=20)
@given(PROBLEM, BETA, st.floats(1e-3, 1), st.floats(1, 2), st.booleans())
def test_no_multiple_of_the_best_step_sizes_has_a_smaller_bound(problem, beta, a, s, decays):
    problem, certificate = replace(problem, T=20), Certificate(a, s)
    constant = theory.best_run(problem, Run(1.0, beta), certificate)
    best = theory.best_step(problem, beta, a, s)
    assert constant.eta == pytest.approx(best, rel=1e-9)
    shape = np.linspace(1, 0, 20)
    decay = 0.3 / best if decays else 0.0
    run = Run(shape * 1e3 * best, beta, weight_decay=decay, radius=100 * best)
    found = theory.best_run(problem, run, certificate)
    lowest = theory.bound(problem, found, certificate).total
    for scale in (0.06, 0.5, 0.99, 1.01, 2.0):
        if (found.eta * scale * run.weight_decay).max() <= 1:
            other = replace(found, eta=found.eta * scale)
            assert lowest <= theory.bound(problem, other, certificate).total * (1 + 1e-9)


def test_the_parts_of_a_run_equal_their_sums_by_hand():
    """η = (1, 1/2), β = (1/2, 1/4), λ = 1/2, ‖W_0‖ = 4, a = s = 1, L = 2, D = 4, p = 2."""
    p = Problem(L=2.0, D=4.0, sigma=3.0, r=4, T=2, B=9)
    run = Run([1.0, 0.5], Momentum([0.5, 0.25]), weight_decay=0.5, radius=4.0)
    assert run.radii(2).tolist() == [4.0, 3.0, 2.75]
    sizes = (1 + 2, 1 + 1.5)
    noise = [2 * 3 / 3 * math.sqrt(v) for v in (0.25, 0.25**2 * 0.25 + 0.75**2)]
    found = theory.bound(p, run)
    assert found.descent == pytest.approx(4 / 1.5)
    assert found.curvature == pytest.approx((9 + 0.25 * 6.25) / 1.5)
    assert found.drift == pytest.approx(2 * 2 * 0.5 * (0.25 * 3) / 1.5) and sizes[0] == 3
    assert found.noise == pytest.approx(2 * (noise[0] + 0.5 * noise[1]) / 1.5)
    assert found.start == pytest.approx(2 * 4 * (0.5 + 0.5 * 0.125) / 1.5)


@settings(deadline=None)
@given(PROBLEM, BETA, st.booleans(), st.floats(1e-4, 0.1))
def test_a_decay_that_vanishes_leaves_the_bound_without_it(problem, beta, nesterov, eta):
    problem = replace(problem, T=50)
    run = Run([eta] * 50, Momentum([beta] * 50, nesterov))
    without, nearly = (
        theory.bound(problem, replace(run, weight_decay=decay, radius=1.0)).total
        for decay in (0.0, 1e-12)
    )
    assert nearly == pytest.approx(without, rel=1e-9)


def test_nesterovs_noise_is_the_formula_s_in_a_simulation():
    """To one percent, of 40,000 chains; at most by a third, at β = 1/√3."""
    beta, rng = 0.95, np.random.default_rng(0)
    plain = np.zeros(40_000)
    for _ in range(200):
        noise = rng.standard_normal(plain.shape)
        plain = beta * plain + (1 - beta) * noise
    measured = (beta * plain + (1 - beta) * noise).var() / plain.var()
    ratio = lambda b: Momentum(b, True).moments(2, 1)[0] / Momentum(b).moments(2, 1)[0]
    assert measured == pytest.approx(ratio(beta), rel=0.01)
    assert max(map(ratio, np.linspace(0, 0.999, 1000))) <= ratio(3**-0.5) < 1.8


@pytest.mark.slow
@pytest.mark.parametrize(("eta", "helps"), [(1.0, True), (1e-3, False)])
def test_nesterovs_step_helps_and_hurts_where_the_bound_says_so(eta, helps):
    row = nesterov.compare(eta, 0.9)
    (plain, changed), (plain_bound, changed_bound) = row["measured"], row["bound"]
    assert (changed < plain) == (changed_bound < plain_bound) == helps
    assert plain <= plain_bound and changed <= changed_bound


@pytest.mark.slow
def test_an_unknown_experiment_is_named_and_a_small_model_has_spectra(monkeypatch):
    with pytest.raises(ValueError, match="experiment 'spectre' does not exist; use one of"):
        convergence.main(experiments=["bounds", "spectre"])
    monkeypatch.setattr(spectra, "LAYERS", 1)
    monkeypatch.setattr(spectra, "DEPTHS", (1, 2))
    rows = spectra.measure_width(16)
    assert len(rows) == 2 * 6 and {row["width"] for row in rows} == {16}
    for row in rows:
        low, middle, high = row["quantiles"]
        assert 0 <= low <= middle <= high < 1 and row["steps"] >= 1


@pytest.mark.slow
def test_steps_by_leaf_cost_no_more_than_the_most_of_them_everywhere(monkeypatch):
    task = replace(leaves.task("gpt"), steps=2, eval_every=1)
    monkeypatch.setattr(leaves, "task", lambda name: task)
    monkeypatch.setattr(leaves, "SEEDS", (0, 1))
    spectra_by_leaf = leaves.record_spectra()
    assert {len(of_leaf) for of_leaf in spectra_by_leaf.values()} == {2}
    chosen = leaves.choose(spectra_by_leaf)
    methods = chosen["polar_express by leaf, 0.98"]
    rows = {
        name: leaves.describe(of, spectra_by_leaf)
        for name, of in chosen.items()
        if name.startswith("polar_express")
    }
    by_leaf = rows["polar_express by leaf, 0.98"]
    most = rows[max(methods.values(), key=lambda name: int(name.partition(":")[2]))]
    assert by_leaf["flops"] < most["flops"] and by_leaf["products"] < most["products"]
    assert 0.98 <= by_leaf["cosine"] <= most["cosine"] < 1 <= most["factor"]
    assert all(1 < loss < 6 for loss in leaves.train(methods))


def test_the_exponent_of_a_power_law_is_found():
    leaf = "blocks/2/attention/key/kernel"
    rows = [
        {"leaf": leaf, "step": step, "width": width, "quantiles": [width**-0.7, 3.0 * width**p]}
        for width in (64, 128, 512)
        for step, p in ((10, 0.0), (40, -0.5))
    ]
    assert spectra.split(leaf) == (3, "key")
    found = [spectra.exponent(rows, leaf, *at) for at in ((10, 1), (40, 1), (40, 0))]
    np.testing.assert_allclose(found, [0, -0.5, -0.7], atol=1e-9)


def test_a_warm_start_leads_where_theory_says_and_its_products_are_counted():
    """From the same Gram matrix, from a half of it, and from one that does not commute."""
    m = np.random.default_rng(0).standard_normal((7, 5)) * np.geomspace(1, 1e-3, 5)
    same, half = (starts.decompose(x) for x in (m, m / math.sqrt(2)))
    found = starts.warm(same, same).described()
    assert found["residual"] < 1e-8 and found["distance"] < 1e-8
    assert found["alignment"] == pytest.approx(1, abs=1e-8)
    # With κ = 1 the residual goes from u to u²·(3 + u)/4: from 0.5 to 0.21875 and 0.0385.
    steps = [(), *(taylor(1).schedule(q) for q in (1, 2, 3))]
    for limit, expected in ((0.51, (2, 2)), (0.22, (2, 3)), (0.0386, (2, 6)), (0, None)):
        asked = (starts.residual, limit, steps, m.shape, starts.warm(same, half))
        assert starts.cheapest(*asked, starts.warm_products) == expected
    # R = 1 + r·(a swap) and Q⁻¹ = diag(1, δ): the limit is turned by r/2·(1 - δ)/(1 + δ).
    r, delta = 1e-3, 0.1
    root, before = np.array([[1, r / 2], [r / 2, 1]]), np.diag([1, delta])
    found = starts.warm(starts.decompose(before), starts.decompose(before @ root)).described()
    assert found["residual"] == pytest.approx(r, rel=1e-2)
    assert found["distance"] == pytest.approx(r / 2 * (1 - delta) / (1 + delta), rel=1e-2)


@pytest.mark.slow
def test_a_warm_start_of_a_small_model_loses_at_most_two_small_products(monkeypatch):
    monkeypatch.setattr(warm_start, "DEPTHS", (2, 3))
    rows = warm_start.measure_run(16, 2, 0.5)
    assert len(rows) == 2 * len(warm_start.DAMPINGS) and rows[0]["matrices"] == 2 * 12
    for row in rows:
        for of_case in row["all"].values():
            (*_, cold), (*_, warm), (*_, control) = of_case.values()
            assert 0 < warm <= cold + 2 * 2 * 16**3 and 0 < control <= cold


VECTOR = st.lists(st.floats(-10, 10), min_size=3, max_size=3).map(np.array)


@given(VECTOR, VECTOR, st.floats(1, 2))
def test_sums_and_differences_have_at_most_twice_the_moments(x, y, p):
    """The inequality behind the factor 2 of heavy tails."""
    left, right = ([np.linalg.norm(z) ** p for z in of] for of in ((x + y, x - y), (x, y)))
    assert sum(left) <= 2 * sum(right) * (1 + 1e-12)


def test_noise_of_a_batch_has_the_bound_that_is_written_down():
    """σ = 2, r = 9, four samples: 3·2·(2·0.3·4^-0.5)^(2/3) for p = 1.5, 3·2·√(0.25/4) for 2."""
    heavy = Problem(L=1.0, D=1.0, sigma=2.0, r=9, T=1, B=4, p=1.5)
    assert heavy.noise(0.3) == pytest.approx(6 * 0.3 ** (2 / 3))
    assert replace(heavy, p=2.0).noise(0.25) == pytest.approx(6 * 0.5 / 2)


@pytest.mark.slow
def test_averages_of_noise_without_a_variance_are_within_their_bound():
    """Student's t with 1.5 degrees of freedom: batches of 4, weights of β = 0.9."""
    problem = make("heavy tails", 6, 8)
    constants = problem.constants(jnp.zeros((6, 8)), 1, 4)
    c, rng = weights([0.9] * 20, False)[-1], np.random.default_rng(0)
    noise = problem.scale * rng.standard_t(problem.freedom, (2000, 20, 4, 6, 8))
    sums = np.linalg.norm(np.einsum("k,nkbij->nij", c, noise) / 4, "nuc", axis=(1, 2))
    assert sums.mean() <= constants.noise((c**constants.p).sum())


# Runs on problems whose constants are known.


@pytest.mark.slow
@pytest.mark.parametrize("where", ["quadratic", "robust", "heavy tails"])
def test_every_seed_is_within_the_bound_and_its_weights_in_the_ball(where, x64):
    """With all features at once; of the quadratic also with each alone."""
    for case in CASES if where == "quadratic" else (ALL,):
        found = compare(where, "SVD", case, steps=60, size=(4, 6))
        assert 0 < max(found["measured"]) <= found["bound"], case
        assert found["reached"] <= 1 + 1e-9, case


@pytest.mark.slow
def test_jordans_weights_go_beyond_the_exact_factors_ball_and_stay_in_their_own(x64):
    found = compare("quadratic", "Jordan", "weight decay", steps=60, size=(4, 6))
    s = theory.certificate("jordan", rank=4).operator_norm
    assert 1 < found["reached"] * s <= s * (1 + 1e-6)
    assert max(found["measured"]) <= found["bound"]


def test_mistakes_say_what_to_write():
    p = Problem(L=1.0, D=1.0, sigma=1.0, r=4, T=10)
    for message, mistake in {
        "eta has shape": lambda: theory.bound(p, Run([0.1] * 9, 0.9)),
        "use numbers ≥ 0, not all 0": lambda: theory.bound(p, Run(0.0, 0.9)),
        "use at most 1/η": lambda: theory.bound(p, Run(2.0, 0.9, weight_decay=0.6)),
        r"use β in \[0, 1\)": lambda: theory.bound(p, Run(0.1, 1.0)),
        "radius=-1.0; use a number": lambda: Run(0.1, 0.9, radius=-1.0),
        r"p=1.0; use a number in \(1, 2\]": lambda: replace(p, p=1.0),
        "use p=2, or call theory.bound": lambda: theory.muon_bound(replace(p, p=1.5), 0.1, 0.9),
        "as certificate": lambda: theory.bound(p, Run(0.1, 0.9), Certificate(0.0, 1.0)),
    }.items():
        with pytest.raises(ValueError, match=message):
            mistake()
