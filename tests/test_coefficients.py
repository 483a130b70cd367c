"""The families: what they are, and that the published lists follow from their generators."""

import json
from dataclasses import asdict, replace
from fractions import Fraction

import numpy as np
import pytest
from scipy.optimize import linprog

from muon_optax import theory
from muon_optax._polynomials import best_odd_polynomial, evaluate
from muon_optax._schedules import find_family
from muon_optax.coefficients import (
    CANS,
    FAMILIES,
    JORDAN,
    POLAR_EXPRESS,
    YOU,
    Coefficients,
    minimax,
    taylor,
)

CUSHION = 0.02407327424182761


@pytest.mark.parametrize(
    ("kappa", "numerators", "denominator"),
    [
        (1, (3, -1), 2),
        (2, (15, -10, 3), 8),
        (3, (35, -35, 21, -5), 16),
        (4, (315, -420, 378, -180, 35), 128),
        (5, (693, -1155, 1386, -990, 385, -63), 256),
    ],
)
def test_taylor_has_the_papers_coefficients(kappa, numerators, denominator):
    expected = tuple(float(Fraction(n, denominator)) for n in numerators)
    assert taylor(kappa).stages == (expected,)


@pytest.mark.parametrize("kappa", [1, 2, 8])
def test_taylor_is_flat_to_order_kappa_at_one(kappa):
    """1 - P(1-h) shrinks like h^(κ+1): halving h divides it by 2^(κ+1)."""
    stage = taylor(kappa).schedule(1)
    h = 2.0**-4
    ratio = (1 - theory.scalar_map(stage, 1 - h)) / (1 - theory.scalar_map(stage, 1 - h / 2))
    assert ratio == pytest.approx(2 ** (kappa + 1), rel=0.15)


def test_minimax_reproduces_the_published_polar_express_list():
    computed = minimax(8, POLAR_EXPRESS.lower, cushion=CUSHION).stages
    np.testing.assert_allclose(computed, POLAR_EXPRESS.stages, rtol=1e-10)


def test_minimax_reproduces_the_public_cans_list():
    """Its first nine rows; the list ends in the limit (1.5, -0.5), 1.7e-5 from row ten's."""
    computed = minimax(9, CANS.lower, kappa=1).stages
    np.testing.assert_allclose(computed, CANS.schedule(12)[:9], rtol=1e-11)
    assert CANS.schedule(12)[9:] == ((1.5, -0.5),) * 3
    assert theory.sup_error(CANS.schedule(12), CANS.lower) < 1e-8


def test_minimax_agrees_with_the_closed_form_of_degree_three():
    for low, high in [(1e-3, 1.0), (0.4, 1.6), (0.999, 1.001)]:
        alpha = np.sqrt(3 / (high**2 + low * high + low**2))
        beta = 4 / (2 + low * high * (low + high) * alpha**3)
        closed = (1.5 * alpha * beta, -0.5 * alpha**3 * beta)
        np.testing.assert_allclose(best_odd_polynomial(low, high, 1), closed, rtol=1e-13)


@pytest.mark.parametrize(("kappa", "low"), [(1, 1e-3), (2, 0.1), (4, 1e-3), (6, 0.6)])
def test_best_polynomial_matches_a_linear_program(kappa, low):
    """An independent minimax on 4000 points cannot do better, and the grid costs little."""
    x = np.geomspace(low, 1.0, 4000)
    a = x[:, None] ** (2 * np.arange(kappa + 1) + 1)
    one = np.ones((len(x), 1))
    program = linprog(
        np.r_[np.zeros(kappa + 1), 1.0],
        A_ub=np.block([[a, -one], [-a, -one]]),
        b_ub=np.r_[one[:, 0], -one[:, 0]],
        bounds=[(None, None)] * (kappa + 1) + [(0, None)],
    )
    error = theory.sup_error((best_odd_polynomial(low, 1.0, kappa),), low)
    assert program.fun - 1e-9 <= error <= program.fun * (1 + 1e-4) + 1e-8


@pytest.mark.parametrize(
    ("kappa", "low"),
    [
        (1, 1e-8),
        (1, 0.99),
        (2, 1e-3),
        (3, 1e-8),
        (5, 0.3),
        (8, 1e-3),
        (12, 1e-8),
        (2, 1 - 1e-7),
    ],
)
def test_best_polynomial_equioscillates(kappa, low):
    """κ+2 alternating extrema of one size prove optimality (de la Vallée Poussin)."""
    high = 2 - low
    stage = best_odd_polynomial(low, high, kappa)
    t = (1 - np.cos(np.linspace(0, np.pi, 40_001))) / 2  # dense where the extrema crowd
    error = 1 - evaluate(stage, low + (high - low) * t)
    largest = np.abs(error).max()
    if largest < 1e-9 * kappa:  # below what float64 coefficients can resolve
        return
    signs = np.sign(error[np.abs(error) > 0.99 * largest])
    assert 1 + np.count_nonzero(np.diff(signs)) >= kappa + 2


def test_best_polynomial_tends_to_taylor_without_losing_digits():
    for kappa in (1, 2, 3, 5):
        limit = taylor(kappa).stages[0]
        assert best_odd_polynomial(1.0, 1.0, kappa) == limit
        for gap in (1e-3, 1e-6, 1e-9):
            near = best_odd_polynomial(1 - gap, 1 + gap, kappa)
            np.testing.assert_allclose(near, limit, rtol=30 * kappa * gap)


def test_an_exchange_that_does_not_converge_in_float64_is_an_error():
    with pytest.raises(ArithmeticError, match="for kappa=20; use a smaller kappa or a larger"):
        best_odd_polynomial(1e-3, 1.0, 20)


@pytest.mark.parametrize("kappa", [1, 2, 4])
def test_minimax_is_prefix_stable_and_centred(kappa):
    family = minimax(6, 1e-3, kappa)
    assert minimax(3, 1e-3, kappa).stages == family.stages[:3]
    for q in range(1, 5):
        smallest, largest = theory.image(family.schedule(q), 1e-3)
        assert 1 - smallest == pytest.approx(largest - 1, abs=1e-10)


def test_safety_shrinks_all_but_the_last_stage():
    raw, safe = minimax(3, 1e-2), minimax(3, 1e-2, safety=1.01)
    x = np.linspace(0, 1.01, 7)
    for q in (1, 2, 3):
        expected = x
        for stage in raw.schedule(q)[:-1]:
            expected = evaluate(stage, expected / 1.01)
        expected = evaluate(raw.schedule(q)[-1], expected)
        np.testing.assert_allclose(theory.scalar_map(safe.schedule(q), x), expected, rtol=1e-13)


def test_repeating_families_extend_and_fixed_ones_refuse():
    assert JORDAN.schedule(9) == JORDAN.stages * 9
    shrunk = tuple(c / 1.01**power for c, power in zip((1.875, -1.25, 0.375), (1, 3, 5)))
    assert POLAR_EXPRESS.schedule(10)[8:] == (shrunk, (1.875, -1.25, 0.375))
    assert YOU.schedule(5) == YOU.stages
    with pytest.raises(ValueError, match=r"steps=6 exceeds the 5 stages of 'you'.*use steps≤5"):
        YOU.schedule(6)


def test_a_family_survives_json():
    for family in FAMILIES.values():
        again = Coefficients(**json.loads(json.dumps(asdict(family))))
        assert again == family and hash(again) == hash(family)


def test_families_are_named_after_themselves_and_cite_a_source():
    for name, family in FAMILIES.items():
        assert family.name == name
        assert family.source
        assert hash(family) == hash(find_family(name))


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: taylor(0), "kappa=0; use a whole number ≥ 1"),
        (lambda: taylor(2.0), "kappa=2.0; use a whole number"),
        (lambda: JORDAN.schedule(0), "steps=0; use a whole number"),
        (lambda: JORDAN.schedule(True), "steps=True; use a whole number"),
        (lambda: minimax(0, 0.1), "steps=0"),
        (lambda: minimax(2, 0.0), r"lower=0.0; use a number in \[1e-10, 1\)"),
        (lambda: minimax(2, 0.1, kappa=13), "kappa=13; use at most 12"),
        (lambda: find_family(3.4), r"unknown family 3.4; use .* numbers, such as \(3.4445"),
        (lambda: find_family(("a", "b")), r"stages=\(\('a', 'b'\),\); use at least one stage"),
        (lambda: find_family(np.zeros((0, 3))), "use at least one stage"),
        (lambda: replace(JORDAN, default_steps=0), "default_steps=0; use a whole number"),
        (lambda: minimax(2, 0.1, cushion=1.0), r"cushion=1.0; use a number in \[0, 1\)"),
        (lambda: minimax(2, 0.1, safety=0.9), "safety=0.9; use a number ≥ 1"),
        (lambda: Coefficients("x", (), "repeat", "-"), "use at least one stage"),
        (lambda: Coefficients("x", ((1.0, float("nan")),), "repeat", "-"), "finite float"),
        (lambda: Coefficients("x", ((1.0,),), "cycle", "-"), "tail='cycle'; use one of"),
        (lambda: Coefficients("x", ((1.0,),), "fixed", "-", lower=1.0), "lower=1.0"),
        (lambda: find_family("jordann"), "unknown family 'jordann'; use .* you mean 'jordan'"),
    ],
)
def test_bad_arguments_say_what_to_write(make, message):
    with pytest.raises(ValueError, match=message):
        make()


def test_a_family_is_shown_by_its_name():
    """It shows in signatures and errors."""
    assert repr(JORDAN) == "Coefficients('jordan')"
    assert repr(minimax(3, 0.1)) == "Coefficients('minimax5', 3 stages)"
    other = Coefficients("jordan", ((1.5, -0.5),))
    assert repr(other) == "Coefficients('jordan', 1 stage)"


def test_a_family_knows_its_usual_number_of_steps():
    assert {name: len(family.schedule()) for name, family in FAMILIES.items()} == {
        name: 12 if name == "cans" else 5 for name in FAMILIES
    }
    made = minimax(3, 0.1), Coefficients("x", ((1.5, -0.5),)), replace(JORDAN, default_steps=2)
    assert [family.default_steps for family in made] == [3, 5, 2]
    assert Coefficients("x", ((1.5, -0.5),), "fixed").default_steps == 1


@pytest.mark.parametrize(
    ("numbers", "stages", "steps"),
    [
        ([1.5, -0.5], ((1.5, -0.5),), 5),
        (np.array([[1.5, -0.5]]), ((1.5, -0.5),), 1),
        (((2, -1, 0), [1.5, -0.5]), ((2.0, -1.0, 0.0), (1.5, -0.5)), 2),
    ],
)
def test_plain_numbers_are_a_family(numbers, stages, steps):
    family = find_family(numbers)
    assert family.stages == stages and len(family.schedule()) == steps
    assert family.schedule(9)[-1] == stages[-1]
    assert hash(family) == hash(find_family(tuple(map(np.asarray, numbers))))
