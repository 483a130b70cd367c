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


def floor(method, dtype):
    """Of errors that average out below gain·eps, in the operator norm."""
    return 0.6 * np.sqrt(gain(method)) * float(jnp.finfo(dtype).eps)


@pytest.mark.device
@pytest.mark.parametrize(
    ("name", "dtype"),
    [("taylor2", "bfloat16"), ("jordan", "bfloat16"), ("polar_express", "float16")],
)
def test_half_precision_products_stay_within_their_floor(name, dtype):
    """They took 0.19 to 0.30 times √gain·eps over five seeds."""
    x = jax.random.normal(jax.random.key(0), (3, 32, 80), "float32")
    method = in_dtype(METHODS[name], dtype)
    found, exact = (replace(method, compute_dtype=d).polar(x) for d in (dtype, "float32"))
    assert found.dtype == x.dtype
    assert 0 < singular_values(found - exact).max() < floor(METHODS[name], dtype)


@pytest.mark.device
@pytest.mark.parametrize(("form", "dtype"), [("direct", "bfloat16"), ("gram", "float16")])
def test_half_precision_products_run_on_tall_matrices(form, dtype):
    """XLA folds a transposition into the last product, and then has to have that product.

    It sums in another order then: 32 products, whose factors' rows and columns are at most 2.
    """
    atol = 32 * 2 * float(jnp.finfo("float32").eps)
    method = NewtonSchulz(form=form, compute_dtype=dtype)
    for shape in ((64, 32), (3, 64, 32)):
        x = jax.random.normal(jax.random.key(0), shape, "float32")
        expected = method.polar(x).mT
        found = jax.jit(lambda x: method.polar(x).mT)(x)
        np.testing.assert_allclose(found, expected, rtol=0, atol=atol)
        assert singular_values(method.polar(x.mT) - expected).max() < floor(method, dtype)


@pytest.mark.parametrize("platform", ["cpu", "cuda", "tpu"])
def test_accelerators_get_bfloat16_unless_asked_otherwise(platform):
    """Read off the program that is lowered for a platform, which need not be this one."""
    half = "f32" if platform == "cpu" else "bf16"
    operands = {"float32": half, "float16": half, "float64": "f64", "complex64": "complex<f32>"}
    for dtype, expected in operands.items():
        results = {"f32" if expected == "bf16" else expected}
        results |= {"bf16"} if expected == "bf16" and platform == "tpu" else set()
        found = product_dtypes(NewtonSchulz(steps=1).polar, platform, (4, 9), dtype)
        assert found == {(expected, expected, result) for result in results}, dtype
    asked = NewtonSchulz(steps=1, compute_dtype="float32").polar
    assert product_dtypes(asked, platform, (4, 9), "float32") == {("f32",) * 3}


def test_without_x64_a_plan_is_for_float32():
    jax.config.update("jax_enable_x64", False)  # the fixture puts it back
    asked, given = (
        NewtonSchulz("polar_express", 8, compute_dtype=dtype).plan(4, 9)
        for dtype in ("float64", "float32")
    )
    assert asked == given
