"""Alignment: its table, its bound against every spectrum, and what steps buy of it."""

from functools import cache

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from reference import matrix_products, matrix_with_spectrum, newton_schulz, singular_values

from muon_optax import METHODS, NewtonSchulz, theory
from muon_optax.coefficients import FAMILIES, JORDAN, minimax, taylor
from muon_optax.theory._alignment import alignment_of_equals

RANKS = (4, 16, 64, 256, 768, 1024, 4096)
PLAIN = minimax(8, 1e-3)
# Computed independently, by the lower convex envelope of √y·(P(√y) - a); the minimax row on a
# finer grid than the others, 2^21 points dense at 0 and at 1, where it oscillates.
TABLE = {
    ("taylor2", 1): (0.7238, 0.4316, 0.2296, 0.1168, 0.0676, 0.0586, 0.0293),
    ("taylor2", 2): (0.8323, 0.5777, 0.3424, 0.1852, 0.1103, 0.0960, 0.0488),
    ("taylor2", 3): (0.8995, 0.6971, 0.4535, 0.2598, 0.1586, 0.1388, 0.0716),
    ("taylor2", 5): (0.9673, 0.8694, 0.6749, 0.4418, 0.2879, 0.2550, 0.1370),
    ("taylor2", 8): (0.9947, 0.9748, 0.9090, 0.7529, 0.5746, 0.5261, 0.3174),
    ("taylor2", 12): (0.9996, 0.9979, 0.9911, 0.9660, 0.9102, 0.8867, 0.7135),
    ("taylor1", 5): (0.9109, 0.7210, 0.4788, 0.2780, 0.1708, 0.1496, 0.0775),
    ("taylor3", 5): (0.9843, 0.9305, 0.7922, 0.5712, 0.3935, 0.3523, 0.1964),
    ("taylor4", 5): (0.9912, 0.9589, 0.8624, 0.6706, 0.4863, 0.4402, 0.2547),
    ("jordan", 5): (0.6812, 0.6786, 0.6686, 0.6337, 0.5663, 0.5407, 0.3838),
    ("jordan", 8): (0.6818, 0.6818, 0.6815, 0.6806, 0.6780, 0.6767, 0.6621),
    ("polar_express", 5): (0.8759, 0.8735, 0.8642, 0.8306, 0.7612, 0.7339, 0.5541),
    ("minimax", 5): (0.8860, 0.8837, 0.8747, 0.8421, 0.7742, 0.7472, 0.5678),
    ("polar_express", 8): (0.9999, 0.9994, 0.9973, 0.9894, 0.9695, 0.9601, 0.8707),
}


def schedule_of(name, q):
    return (FAMILIES | {"minimax": PLAIN})[name].schedule(q)


bound = cache(theory.alignment_bound)


def test_alignment_bounds_equal_the_reference_table():
    found = [[bound(schedule_of(*row), rank) for rank in RANKS] for row in TABLE]
    np.testing.assert_allclose(found, [*TABLE.values()], atol=5e-4)


@pytest.mark.parametrize(
    ("name", "q", "rank"),
    [("taylor2", 5, 64), ("jordan", 8, 1024), ("minimax", 5, 64), ("polar_express", 8, 1024)],
)
def test_the_alignment_bound_is_what_a_dense_grid_gives(name, q, rank):
    """The highest minimum over λ of the lines that 2^19 points give, dense at 0 and at 1."""
    near_one = 1 - np.geomspace(1e-14, 0.1, 2**18)
    x = np.concatenate([np.geomspace(1e-7, 1, 2**18), near_one])
    values, slopes = theory.scalar_map(schedule_of(name, q), x), (1 / rank - x * x) / x
    best, width = 1.0, 1.0
    while width > 1e-8:  # concave in λ
        weights = best + width * np.linspace(-1, 1, 21)
        lowest = [(values + weight * slopes).min() for weight in weights]
        best, width = weights[np.argmax(lowest)], width / 10
    dense = max(lowest)
    assert bound(schedule_of(name, q), rank) == pytest.approx(dense, abs=2e-6)


@pytest.mark.parametrize("stages", [((100.0,),) + ((2.5, -1.5),) * 8, ((4.2, -7.0, 3.3),) * 10])
def test_a_schedule_that_overflows_certifies_nothing(stages):
    assert theory.alignment_bound(stages, 4) == -np.inf


@pytest.mark.parametrize("rank", [1, 3, 10**6])
def test_without_a_step_the_alignment_bound_is_one_over_root_rank(rank):
    assert theory.alignment_bound((), rank) == pytest.approx(rank**-0.5, rel=1e-8)


@pytest.mark.parametrize(
    ("name", "operator_norm"),
    [("taylor2", 1.0), ("jordan", 1.2024), ("polar_express", 1.1236)],
)
def test_the_certified_operator_norm_is_the_largest_value_of_the_map(name, operator_norm):
    certificate = theory.certificate(schedule_of(name, 5), rank=4)
    assert certificate.operator_norm == pytest.approx(operator_norm, abs=1e-4)


SPECTRA = st.lists(
    st.one_of(st.floats(0, 1), st.floats(-30, 0).map(lambda e: 10.0**e)),
    min_size=1,
    max_size=12,
).filter(any)
SCHEDULES = st.one_of(
    st.just(()),
    st.tuples(st.sampled_from([*TABLE, ("you", 5), ("cans", 12)])).map(
        lambda row: schedule_of(*row[0])
    ),
)


@pytest.mark.slow
@settings(deadline=None, max_examples=200)
@given(SCHEDULES, SPECTRA, st.sampled_from(["frobenius", "schatten4"]))
def test_no_spectrum_has_a_smaller_alignment_than_the_bound(schedule, sigma, normalize):
    at_least = bound(schedule, len(sigma), normalize)
    assert theory.alignment(schedule, sigma, normalize) >= at_least - 1e-6


@pytest.mark.parametrize(
    ("name", "q", "slack", "rank"),
    [("taylor2", 3, 1.03, 16), ("jordan", 5, 1.03, 256), ("polar_express", 5, 1.06, 16)],
)
def test_a_two_level_spectrum_comes_near_the_bound(name, q, slack, rank):
    """So that the bound cannot be far too small. What is left: it also serves spectra in which
    a value occurs a fractional number of times, such as 1.002."""
    schedule = schedule_of(name, q)
    found = min(
        theory.alignment(schedule, [1.0] * k + [low] * (rank - k))
        for k in range(1, rank, rank // 16)
        for low in np.geomspace(1e-4, 1, 400)
    )
    assert bound(schedule, rank) <= found + 1e-9 <= slack * bound(schedule, rank)


def test_more_steps_and_higher_degrees_never_align_less():
    for kappa in (1, 2, 3):
        by_steps = [bound(taylor(kappa).schedule(q), 256) for q in range(1, 10)]
        assert (np.diff(by_steps) > 0).all()
        assert bound(taylor(kappa + 1).schedule(5), 256) > by_steps[4]


def test_alignment_does_not_depend_on_the_scale():
    sigma = np.array([3.0, 1.0, 0.1])
    schedule = schedule_of("jordan", 5)
    small = theory.alignment(schedule, 1e-300 * sigma)
    assert small == pytest.approx(theory.alignment(schedule, sigma), rel=1e-12)


@pytest.mark.parametrize(("delta0", "q"), [(0.5, 1), (0.99, 3), (0.999999, 8)])
def test_from_delta0_the_factor_of_the_taylor_family_is_the_papers(delta0, q):
    factor = theory.certificate(taylor(2).schedule(q), delta0=delta0).factor
    exact = theory.constant_factor(theory.residual(delta0, 2, q))
    assert factor == pytest.approx(exact, rel=1e-7)  # sqrt(1 - δ_0) at δ_0 = 0.999999


def test_more_knowledge_gives_a_better_factor():
    sigma = 1.0 / np.arange(1, 65)
    delta0 = 1 - (sigma.min() / np.linalg.norm(sigma)) ** 2
    schedule = taylor(2).schedule(5)
    whole = theory.certificate(schedule, spectrum=sigma).factor
    assert 1 < whole < theory.certificate(schedule, rank=64).factor
    assert whole < theory.certificate(schedule, delta0=delta0).factor


def test_a_map_that_reverses_a_sign_has_an_infinite_factor():
    assert theory.certificate(((-1.0,),), rank=4).factor == float("inf")


@pytest.mark.parametrize("kappa", [1, 2, 5, 10])
def test_the_products_counted_are_those_that_newton_schulz_makes(kappa):
    stage = taylor(kappa).stages[0]
    method = NewtonSchulz(taylor(kappa), 1, form="direct")
    jaxpr = jax.make_jaxpr(method.polar)(jnp.ones((2, 5)))
    made = matrix_products(jaxpr)
    assert theory.products((stage,)) == len(made)
    assert theory.flops((stage,), 5, 2) == theory.flops((stage,), 2, 5) == sum(made)


@pytest.mark.parametrize("known", [{"rank": 64}, {"delta0": 0.999}, {"spectrum": [3, 1]}])
@pytest.mark.parametrize("family", [taylor(2), PLAIN])
def test_steps_for_are_the_fewest_that_suffice(family, known):
    q = theory.steps_for(1.2, family, **known)
    assert theory.certificate(family.schedule(q), **known).factor <= 1.2
    if q > 1:
        assert theory.certificate(family.schedule(q - 1), **known).factor > 1.2


@pytest.mark.parametrize(
    ("name", "normalize"),
    [("taylor2", "schatten4"), ("jordan", "frobenius"), ("cans", "schatten4")],
)
def test_equal_singular_values_keep_no_less_than_the_bound(name, normalize):
    """So that `steps_for` passes over no steps that suffice."""
    schedule = FAMILIES[name].schedule(5)
    found = alignment_of_equals(schedule, 12, normalize)
    each = [theory.alignment(schedule, np.ones(k), normalize) for k in range(1, 13)]
    assert found == pytest.approx(min(each), rel=1e-9)
    assert theory.alignment_bound(schedule, 12, normalize) <= found + 2e-6
    large = alignment_of_equals(schedule, 10**9, normalize)
    assert theory.alignment_bound(schedule, 10**9, normalize) <= large + 2e-6


def test_steps_for_is_none_where_a_family_never_gets_there():
    assert theory.steps_for(1.1, "jordan", delta0=0.9) is None
    assert theory.steps_for(1.001, "you", rank=64) is None  # five stages, no more
    five = [theory.steps_for(factor, "you", rank=8) for factor in np.linspace(1.02, 1.3, 57)]
    assert 5 in five  # and no less


@pytest.mark.parametrize(
    "jordan",
    [
        *("jordan", "jordan:5", JORDAN, NewtonSchulz()),
        *(JORDAN.stages[0], np.array(JORDAN.stages * 5)),
    ],
)
def test_theory_takes_whatever_names_a_schedule(jordan):
    schedule, known = JORDAN.schedule(5), {"spectrum": [3, 1, 0.1]}
    for call in (
        theory.products,
        lambda s: theory.flops(s, 3, 4),
        lambda s: theory.scalar_map(s, 0.1),
        lambda s: theory.image(s, 0.1),
        lambda s: theory.sup_error(s, 0.1),
        lambda s: theory.certificate(s, rank=8),
        lambda s: theory.certificate(s, **known),
        lambda s: theory.certificate(s, delta0=0.9),
    ):
        assert call(jordan) == call(schedule)
    assert theory.steps_for(1.2, jordan, **known) == 2


def test_a_method_brings_its_normalization():
    fast, sigma = METHODS["fast"], [3.0, 1.0, 0.1]
    expected = theory.alignment(fast.schedule, sigma, "schatten4")
    assert theory.alignment("fast", sigma) == theory.alignment(fast, sigma) == expected
    assert theory.alignment(fast, sigma, "frobenius") != pytest.approx(expected, rel=1e-3)
    assert theory.alignment_bound("fast", 8) == bound(fast.schedule, 8, "schatten4")
    assert theory.certificate(fast, spectrum=sigma).alignment == expected
    norms = None, "schatten4", "frobenius"
    steps = [theory.steps_for(1.1, "near_exact", spectrum=sigma, normalize=n) for n in norms]
    assert steps == [1, 1, 5]


@pytest.mark.parametrize("given", [{"normalize": "aol"}, {"eps": 1e-7}])
def test_theory_refuses_a_normalization_that_it_is_not_about(given):
    method = NewtonSchulz(**given)
    with pytest.raises(ValueError, match=r"NewtonSchulz.* that the theory does not cover"):
        theory.certificate(method, rank=4)
    assert theory.alignment(method, [3, 1], "frobenius") == theory.alignment("jordan", [3, 1])


def test_a_table_has_what_newton_schulz_makes_of_the_matrix():
    """By the definitions, in NumPy; the third singular value is zero in float32."""
    sigma = np.array([1.0, 0.2, 1e-8])
    x, polar = (
        matrix_with_spectrum(np.random.default_rng(0), 3, 5, s) for s in (sigma, sigma > 1e-6)
    )
    o = newton_schulz(x, JORDAN.schedule(3)) @ polar.T @ polar  # without the third
    row, *_ = theory.tabulate(np.float32(sigma), [NewtonSchulz("jordan", 3)]).rows
    assert row[:3] == ("jordan", 3, 9)
    error = np.linalg.norm(o - polar) / np.linalg.norm(polar)
    expected = [error, (o * x).sum() / sigma.sum(), *singular_values(o)[1::-1]]
    np.testing.assert_allclose(row[3:], expected, rtol=1e-6)  # float32 has 0.2 to 1.5e-8
    assert theory.tabulate(sigma, ["jordan:3"]).rows[0].smallest < 1e-6


def test_a_table_has_every_method_and_number_of_steps():
    table = theory.tabulate([3, 1], ("you:3", "fast", (1.5, -0.5)), steps=(2, 7))
    names = {"you": [2], "fast": [2, 7], "numbers": [2, 7]}
    assert [row[:2] for row in table.rows] == [(n, q) for n, of in names.items() for q in of]
    usual = theory.tabulate([3, 1]).rows
    assert [row.steps for row in usual] == [len(METHODS[row.method].schedule) for row in usual]


def test_a_vector_costs_operations_too():
    assert theory.flops(((1.5, -0.5),), 1, 3) == theory.flops(((1.5, -0.5),), 3, 1) == 12


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: theory.alignment_bound((), 0), "rank=0"),
        (lambda: theory.alignment_bound((), 4, "aol"), "normalize='aol'; use one of"),
        (lambda: theory.alignment((), [0.0, 0.0]), "not all zero"),
        (lambda: theory.alignment((), [1.0, -1.0]), "numbers ≥ 0"),
        (lambda: theory.alignment((), [1.0, np.nan]), "finite"),
        (lambda: theory.certificate(()), "got nothing; pass exactly one"),
        (lambda: theory.certificate((), rank=2, delta0=0.5), "'rank', 'delta0'"),
        (lambda: theory.certificate((), delta0=1.5), "delta0=1.5"),
        (lambda: theory.flops((), 0, 3), "m=0; use a whole number ≥ 1"),
        (lambda: theory.steps_for(1.0, "jordan", rank=4), "factor=1.0; use a number above 1"),
        (lambda: theory.steps_for(1.1, "jordan", rank=4, delta0=0.5), "'rank', 'delta0'"),
        (
            lambda: theory.steps_for(1.1, "jordann", rank=4),
            "unknown name 'jordann'.* mean 'jordan'",
        ),
        (lambda: theory.image("jordan:0", 0.1), "steps=0"),
        (lambda: theory.image("jordan:", 0.1), "unknown name 'jordan:'; use one of"),
        (lambda: theory.tabulate([1.0], rcond=1), "rcond=1; use None or a number"),
    ],
)
def test_a_wrong_argument_is_refused(call, message):
    with pytest.raises(ValueError, match=message):
        call()
