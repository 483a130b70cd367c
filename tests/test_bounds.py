"""Convergence bounds: on problems whose constants are known, and against each other."""

from functools import cache
from itertools import pairwise

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from benchmarks.convergence.problems import muon, quadratic, robust, run, sgdm
from muon_optax import METHODS, SVD, NewtonSchulz, scale_by_muon, theory

M, N, T, BATCH, SEEDS = 6, 8, 100, 4, 2
PROBLEMS = {
    "quadratic": lambda: quadratic(jax.random.key(0), M, N, decay=1.0, sigma=0.5, gap=8.0),
    "robust": lambda: robust(jax.random.key(0), M, N),
}
POLAR = {
    "svd": SVD(),
    **{f"taylor2-{q}": NewtonSchulz("taylor2", q) for q in (1, 3, 8)},
    "jordan": METHODS["jordan"],
    "polar_express": METHODS["polar_express"],
}


def seeds(problem, tx, eta):
    start, keys = jnp.zeros((M, N)), jax.random.split(jax.random.key(1), SEEDS)
    return jax.vmap(lambda key: run(problem, tx, eta, key, T, BATCH, start))(keys)


@cache
def every_muon(where):
    """Constants, step, momentum and trajectories by method, compiled as one program."""
    methods = (
        POLAR if where == "quadratic" else {name: POLAR[name] for name in ("svd", "jordan")}
    )
    problem = PROBLEMS[where]()
    p = problem.constants(jnp.zeros((M, N)), T, BATCH)
    eta, beta = theory.tuned_step(p)
    runs = lambda eta: {k: seeds(problem, muon(m, beta), eta) for k, m in methods.items()}
    return p, eta, beta, jax.jit(runs)(eta)


@pytest.mark.slow
@pytest.mark.parametrize("where", PROBLEMS)
def test_muons_gradient_is_within_every_bound_for_every_seed(where, x64):
    p, eta, beta, trajectories = every_muon(where)
    for name, seen in trajectories.items():
        a, s = float(seen.alignment.min()), float(seen.operator_norm.max())
        measured = theory.muon_bound(p, eta, beta, min(a, s), s)
        paper = theory.paper_bound(p, eta, beta, float(seen.polar_error.max()))
        assert float(seen.gradient.mean(1).max()) <= measured <= paper, name
        if name != "svd":
            certificate = theory.certificate(POLAR[name].schedule, rank=M)
            assert a >= certificate.alignment - 1e-6, name
            assert s <= certificate.operator_norm + 1e-6, name
            assert measured <= theory.muon_bound(p, eta, beta, *certificate), name


@pytest.mark.slow
@pytest.mark.parametrize("where", PROBLEMS)
def test_sgds_gradient_is_within_its_bound_for_every_seed(where, x64):
    problem = PROBLEMS[where]()
    p = problem.constants(jnp.zeros((M, N)), T, BATCH)
    eta, beta = theory.tuned_sgdm_step(p)
    seen = seeds(problem, sgdm(beta), eta)
    assert float(seen.gradient.mean(1).max()) <= theory.sgdm_bound(p, eta, beta)


@pytest.mark.slow
@pytest.mark.parametrize("where", PROBLEMS)
def test_the_constants_of_the_problems_bound_what_they_say(where, x64):
    problem, rng = PROBLEMS[where](), np.random.default_rng(3)
    p = problem.constants(jnp.zeros((M, N)), T, BATCH)
    gradient = jax.grad(problem.value)
    for scale in (1e-3, 1.0, 10.0):
        x, y = (jnp.asarray(rng.standard_normal((M, N)) * scale) for _ in range(2))
        change, step = np.asarray(gradient(x) - gradient(y)), np.asarray(x - y)
        nuclear, op = np.linalg.norm(change, "nuc"), np.linalg.norm(step, 2)
        assert nuclear <= p.L * op * (1 + 1e-9)
        assert np.linalg.norm(change) <= p.L_F * np.linalg.norm(step) * (1 + 1e-9)
        keys = jax.random.split(jax.random.key(0), 1000)
        noise = jax.vmap(lambda key, x=x: problem.noisy_gradient(key, x, 1))(keys) - gradient(x)
        assert float((noise**2).sum((1, 2)).mean()) <= 1.1 * p.sigma**2
    if where == "quadratic":  # attained, at the difference of an isometry
        u = jnp.eye(M, N)
        change = gradient(x + u) - gradient(x)
        assert np.linalg.norm(change, "nuc") == pytest.approx(p.L, rel=1e-9)


@pytest.mark.slow
def test_more_steps_bring_the_trajectory_closer_to_that_of_the_svd(x64):
    """On the quadratic, with the same noise; relative to the matrix 2e-5 is left at q = 8."""
    ends = {name: seen.end[0] for name, seen in every_muon("quadratic")[3].items()}
    exact = ends["svd"]
    distances = [float(jnp.linalg.norm(ends[f"taylor2-{q}"] - exact)) for q in (1, 3, 8)]
    assert all(after < before for before, after in pairwise(distances))
    assert distances[-1] < 1e-4 * float(jnp.linalg.norm(exact))


PROBLEM = st.builds(
    theory.Problem,
    L=st.floats(1e-3, 1e3),
    D=st.floats(1e-3, 1e3),
    sigma=st.floats(0, 1e3),
    r=st.integers(1, 4096),
    T=st.integers(1, 10**6),
    B=st.integers(1, 1024),
)
BETA = st.floats(0, 0.999)


@settings(deadline=None)
@given(PROBLEM, BETA, st.floats(1e-3, 1), st.floats(1, 2))
def test_the_bound_is_within_the_factor_of_the_exact_polar_factors(problem, beta, a, s):
    """Each at its own best step: the statement behind `Certificate.factor`."""
    exact = theory.muon_bound(problem, theory.best_step(problem, beta), beta)
    eta = theory.best_step(problem, beta, a, s)
    bound = theory.muon_bound(problem, eta, beta, a, s)
    assert exact <= bound * (1 + 1e-12)
    assert bound <= exact * theory.Certificate(a, s).factor * (1 + 1e-12)


@settings(deadline=None)
@given(PROBLEM, BETA, st.floats(1e-3, 1), st.floats(1, 2), st.floats(0.1, 10))
def test_no_step_has_a_smaller_bound_than_the_best_one(problem, beta, a, s, factor):
    best = theory.best_step(problem, beta, a, s)
    at_best = theory.muon_bound(problem, best, beta, a, s)
    assert at_best <= theory.muon_bound(problem, factor * best, beta, a, s) * (1 + 1e-12)


@settings(deadline=None)
@given(PROBLEM, BETA, st.floats(0, 0.99), st.floats(1e-6, 1))
def test_the_alignment_form_is_never_above_the_papers(problem, beta, error, eta):
    form = theory.muon_bound(problem, eta, beta, 1 - error, 1 + error)
    assert form <= theory.paper_bound(problem, eta, beta, error) * (1 + 1e-12)


def test_the_bounds_equal_their_terms_added_up():
    """L = 2, L_F = 1/2, D = 3, σ = 5, r = 4, T = 8, B = 25, β = 3/5, by hand."""
    p = theory.Problem(L=2.0, L_F=0.5, D=3.0, sigma=5.0, r=4, T=8, B=25)
    noise = 0.5 * 2 * 1  # √((1-β)/(1+β))·√r·σ/√B
    descent, curvature = 3 / (8 * 0.1), 2 * 0.1 / 2
    drift, start = 0.6 * 2 * 0.1 / 0.4, 0.6 * 12**0.5 / (8 * 0.4)
    paper = descent + curvature * 1.5**2 + 2 * drift * 1.5 + 2 * noise + 2 * start * 2
    assert theory.paper_bound(p, 0.1, 0.6, 0.5) == pytest.approx(paper / 0.5)
    muon_form = descent + curvature * 1.2**2 + (0.7 + 1.2) * (drift * 1.2 + noise + start)
    assert theory.muon_bound(p, 0.1, 0.6, 0.7, 1.2) == pytest.approx(muon_form / 0.7)
    inside = 2 * 3 * 0.4 / (8 * 0.1) + 2 * 0.36 * 0.5 * 3 / (8 * 0.4) + 0.4 * 25 / 25
    assert theory.sgdm_bound(p, 0.1, 0.6) == pytest.approx(2 * inside**0.5)


def test_the_tuned_steps_have_the_papers_rates():
    at = [theory.Problem(L=2.0, D=3.0, sigma=5.0, r=7, T=t, B=2) for t in (10**6, 10**8)]
    (eta, beta), (later, calmer) = map(theory.tuned_step, at)
    assert later / eta == pytest.approx(100**-0.75)
    assert (1 - calmer) / (1 - beta) == pytest.approx(100**-0.5)
    assert theory.tuned_step(theory.Problem(L=2.0, D=3.0, sigma=0.0, r=7, T=100))[1] == 0
    eta, beta = theory.tuned_sgdm_step(at[0])
    assert eta == pytest.approx((1 - beta) ** 2 / 4) and 1 - beta == pytest.approx(
        (2 * 3 * 2) ** 0.5 / (5 * 1000)
    )


@pytest.mark.slow
@pytest.mark.parametrize("name", ["taylor2", "polar_express"])
def test_weight_decay_keeps_the_weight_under_the_spectral_bound(name, x64):
    method, decay, rng = METHODS[name], 0.5, np.random.default_rng(0)
    s = theory.certificate(method.schedule, rank=5).operator_norm
    limit = theory.spectral_bound(1.0, decay, s)
    tx = optax.chain(scale_by_muon(method), optax.add_decayed_weights(decay), optax.scale(-0.3))
    w = jnp.eye(5, 7)
    update, state, direction = (
        jax.jit(tx.update),
        tx.init(w),
        jnp.asarray(rng.standard_normal((5, 7))),
    )
    largest = 0.0
    for _ in range(60):
        updates, state = update(direction + rng.standard_normal((5, 7)), state, w)
        w = w + updates
        largest = max(largest, float(jnp.linalg.norm(w, 2)))
    assert 0.5 * limit < largest <= limit


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda p: theory.Problem(L=0.0, D=1.0, sigma=0.0, r=1, T=1), "L=0.0; use a positive"),
        (lambda p: theory.Problem(L=1.0, D=1.0, sigma=-1.0, r=1, T=1), "sigma=-1.0"),
        (lambda p: theory.Problem(L=1.0, D=1.0, sigma=0.0, r=1, T=1, L_F=2.0), "L_F=2.0"),
        (lambda p: theory.muon_bound(p, 0.0, 0.5), "eta=0.0"),
        (lambda p: theory.muon_bound(p, 0.1, 1.0), "beta=1.0"),
        (
            lambda p: theory.muon_bound(p, 0.1, 0.5, 1.5, 1.0),
            "use 0 < alignment ≤ operator_norm",
        ),
        (lambda p: theory.muon_bound(p, 0.1, 0.5, 0.0, 1.0), "alignment=0.0"),
        (lambda p: theory.paper_bound(p, 0.1, 0.5, 1.0), "polar_error=1.0"),
        (lambda p: theory.sgdm_bound(p, 1.1, 0.0), r"η ≤ \(1-β\)²/L_F = 1"),
        (lambda p: theory.spectral_bound(1.0, 0.0), "weight_decay=0.0"),
        (lambda p: theory.spectral_bound(-1.0, 0.1), "initial=-1.0"),
    ],
)
def test_a_wrong_argument_is_refused(call, message):
    problem = theory.Problem(L=1.0, D=1.0, sigma=1.0, r=4, T=100)
    with pytest.raises(ValueError, match=message):
        call(problem)
