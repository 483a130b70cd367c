"""The dtype of the products: what a platform takes, and what half precision costs."""

from dataclasses import replace

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from reference import (
    in_dtype,
    product_dtypes,
    singular_values,
)
from tolerances import gain

from muon_optax import METHODS, NewtonSchulz


@pytest.fixture(autouse=True)
def wide_types(x64):
    """float64 and complex128 among the dtypes; the others stay what they are."""


@pytest.mark.device
@pytest.mark.parametrize(
    ("name", "dtype"),
    [("taylor2", "bfloat16"), ("jordan", "bfloat16"), ("polar_express", "float16")],
)
def test_half_precision_products_stay_within_their_floor(name, dtype):
    """Errors average out below gain·eps: 0.19 to 0.30 times √gain·eps over five seeds."""
    x = jax.random.normal(jax.random.key(0), (3, 32, 80), "float32")
    method = in_dtype(METHODS[name], dtype)
    found, exact = (replace(method, compute_dtype=d).polar(x) for d in (dtype, "float32"))
    assert found.dtype == x.dtype
    difference = singular_values(found - exact).max()
    assert 0 < difference < 0.6 * np.sqrt(gain(METHODS[name])) * float(jnp.finfo(dtype).eps)


@pytest.mark.device
@pytest.mark.parametrize(("form", "dtype"), [("direct", "bfloat16"), ("gram", "float16")])
def test_half_precision_products_run_on_tall_matrices(form, dtype):
    """XLA folds a transposition into the last product, and then has to have that product."""
    method = NewtonSchulz(form=form, compute_dtype=dtype)
    for shape in ((64, 32), (3, 64, 32)):
        x = jax.random.normal(jax.random.key(0), shape, "float32")
        expected = method.polar(x).mT
        np.testing.assert_array_equal(jax.jit(lambda x: method.polar(x).mT)(x), expected)
        np.testing.assert_array_equal(method.polar(x.mT), expected)


@pytest.mark.parametrize("platform", ["cpu", "cuda", "tpu"])
def test_accelerators_get_bfloat16_unless_asked_otherwise(platform):
    """Read off the program that is lowered for a platform, which need not be this one."""
    half = "f32" if platform == "cpu" else "bf16"
    operands = {"float32": half, "float16": half, "float64": "f64", "complex64": "complex<f32>"}
    for dtype, expected in operands.items():
        result = "f32" if expected == "bf16" else expected
        found = product_dtypes(NewtonSchulz(steps=1).polar, platform, (4, 9), dtype)
        assert found == {(expected, expected, result)}, dtype
    asked = NewtonSchulz(steps=1, compute_dtype="float32").polar
    assert product_dtypes(asked, platform, (4, 9), "float32") == {("f32",) * 3}


def test_without_x64_a_plan_is_for_float32():
    jax.config.update("jax_enable_x64", False)  # the fixture puts it back
    asked, given = (
        NewtonSchulz("polar_express", 8, compute_dtype=dtype).plan(4, 9)
        for dtype in ("float64", "float32")
    )
    assert asked == given
