"""Newton-Schulz with other libraries' roundings: their results to the bit."""

from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from reference import newton_schulz

from muon_optax import SVD, NewtonSchulz
from muon_optax.coefficients import JORDAN
from muon_optax.compat import RoundedNewtonSchulz

GOLDEN = dict(np.load(Path(__file__).parent / "data" / "parity_golden.npz"))
SHAPES = ("wide", "tall", "square")


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("order", ["torch", "keller"])
def test_newton_schulz_is_theirs_to_the_bit(order, shape):
    x, expected = GOLDEN[f"{shape}/G"][0], GOLDEN[f"{shape}/ns_{order}"]
    method = RoundedNewtonSchulz(order)
    np.testing.assert_array_equal(method.polar(jnp.asarray(x.T)).T, expected)
    if shape != "square":  # whose roundings are those of [fan_in, fan_out]
        np.testing.assert_array_equal(method.polar(jnp.asarray(x)), expected)


@pytest.mark.parametrize("order", ["torch", "keller"])
def test_a_batch_inside_a_jitted_function_is_theirs_to_the_bit(order):
    method = RoundedNewtonSchulz(order)
    stack = jnp.stack([GOLDEN["square/G"][t].T for t in (1, 0)])[None]
    found = jax.jit(lambda x: 2 * method.polar(x / 2 + x / 2))(stack)
    np.testing.assert_array_equal(found[0, 1].T, 2 * GOLDEN[f"square/ns_{order}"])


@pytest.mark.parametrize("shape", SHAPES)
def test_the_exact_polar_factor_is_the_goldens(shape):
    """Computed there in float64; here in float32, for matrices of condition 3 to 64."""
    found = SVD().polar(jnp.asarray(GOLDEN[f"{shape}/G"][0]))
    np.testing.assert_allclose(found, GOLDEN[f"{shape}/polar_svd"], atol=1e-4)


WRONG_METHODS = {
    "order": lambda order: RoundedNewtonSchulz({"torch": "keller", "keller": "torch"}[order]),
    "a": lambda order: RoundedNewtonSchulz(order, (3.4545, -4.7750, 2.0315)),
    "c": lambda order: RoundedNewtonSchulz(order, (3.4445, -4.7750, 2.0415)),
    "float32": lambda order: NewtonSchulz(eps=1e-7, compute_dtype="float32"),
}


@pytest.mark.parametrize("wrong", WRONG_METHODS)
@pytest.mark.parametrize("order", ["torch", "keller"])
def test_another_newton_schulz_differs(order, wrong):
    found = WRONG_METHODS[wrong](order).polar(jnp.asarray(GOLDEN["wide/G"][0].T))
    assert np.abs(found.T - GOLDEN[f"wide/ns_{order}"]).max() > 7e-3  # a bfloat16 at 1


@pytest.mark.parametrize(
    ("order", "least", "most"), [("torch", 0.013, 0.016), ("keller", 0.030, 0.034)]
)
def test_rounding_is_a_few_percent_of_the_result(order, least, most):
    for shape in SHAPES:
        ours = newton_schulz(GOLDEN[f"{shape}/G"][0], JORDAN.schedule(5))
        theirs = GOLDEN[f"{shape}/ns_{order}"]
        assert least < np.linalg.norm(ours - theirs) / np.linalg.norm(theirs) < most


@pytest.mark.parametrize("scale", [0.0, 1e-8, 1e-7, 1.0, 1e9])
def test_eps_is_in_units_of_the_input(scale):
    """`max(‖x‖, eps)` of torch's, `‖x‖ + eps` of Keller Jordan's; the rest is rounding."""
    x = GOLDEN["wide/G"][0].astype(np.float64)
    norm = np.linalg.norm(x := scale * x / np.linalg.norm(x))
    for order, divisor in (("torch", max(norm, 1e-7)), ("keller", norm + 1e-7)):
        y = x / divisor
        for a, b, c in JORDAN.schedule(5):
            gram = y @ y.T
            y = a * y + b * gram @ y + c * gram @ gram @ y
        found = RoundedNewtonSchulz(order).polar(jnp.asarray(x.T, jnp.float32)).T
        assert np.linalg.norm(found - y) <= 0.05 * np.linalg.norm(y)


def test_it_keeps_dtype_and_emptiness():
    method = RoundedNewtonSchulz("keller")
    for dtype in ("float16", "bfloat16"):
        assert jax.eval_shape(method.polar, jnp.ones((2, 4, 3), dtype)).dtype == dtype
    assert method.polar(jnp.zeros((2, 0, 3))).shape == (2, 0, 3)
    assert not method.polar(jnp.zeros((2, 4, 3))).any()


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (
            lambda: RoundedNewtonSchulz("pytorch"),
            "order='pytorch'; use one of .'keller', 'torch'",
        ),
        (
            lambda: RoundedNewtonSchulz("torch", (1.5, -0.5)),
            "coefficients=.1.5, -0.5.; use three",
        ),
        (lambda: RoundedNewtonSchulz("torch", "jordan"), "coefficients='jordan'; use three"),
        (
            lambda: RoundedNewtonSchulz("torch", (3.0, np.nan, 1.0)),
            "coefficient b=nan; use a finite number",
        ),
        (lambda: RoundedNewtonSchulz("torch", steps=0), "steps=0; use a whole number ≥ 1"),
        (lambda: RoundedNewtonSchulz("torch", steps=2.5), "steps=2.5; use a whole number ≥ 1"),
        (lambda: RoundedNewtonSchulz("torch", eps=0.0), "eps=0.0; use a number ≥ 1e-37"),
        (
            lambda: RoundedNewtonSchulz("torch").polar(jnp.ones((2, 2), complex)),
            r"shape \(2, 2\), complex64.*complex, which .* use NewtonSchulz\(\)",
        ),
        (lambda: RoundedNewtonSchulz("torch").polar(jnp.ones(2)), "at least two axes"),
        (lambda: RoundedNewtonSchulz("torch").polar(jnp.ones((2, 2), int)), "floats"),
    ],
)
def test_bad_arguments_say_what_to_write(make, message):
    with pytest.raises(ValueError, match=message):
        make()


def test_a_list_of_coefficients_is_the_same_method():
    listed = RoundedNewtonSchulz("torch", [3.4445, -4.7750, 2.0315])
    assert listed == RoundedNewtonSchulz("torch") and hash(listed) == hash(
        RoundedNewtonSchulz("torch")
    )
