"""The shape factors, each against its formula on both sides of its bend."""

import math

import jax.numpy as jnp
import numpy as np
import pytest

from muon_optax import MuonDimensionNumbers, scale_by_shape
from muon_optax.transforms._shape import SHAPE_SCALINGS, shape_factor

CASES = {
    "jordan": [((16, 64), 2.0), ((64, 16), 1.0), ((8, 8), 1.0)],
    "adam_rms": [((16, 64), 0.2 * 8), ((64, 16), 0.2 * 8), ((9, 4), 0.6)],
    "rms_to_rms": [((16, 64), 2.0), ((64, 16), 0.5), ((8, 8), 1.0)],
    "none": [((16, 64), 1.0), ((64, 16), 1.0)],
}


@pytest.mark.parametrize("rule", SHAPE_SCALINGS)
def test_factor_equals_its_formula(rule):
    for (fan_in, fan_out), expected in CASES[rule]:
        assert shape_factor(rule, fan_in, fan_out) == pytest.approx(expected)


@pytest.mark.parametrize("rule", SHAPE_SCALINGS)
def test_an_empty_matrix_has_factor_one(rule):
    assert shape_factor(rule, 0, 4) == shape_factor(rule, 4, 0) == 1.0


def test_adam_rms_gives_an_orthogonal_update_the_rms_of_adamw():
    fan_in, fan_out = 12, 48
    rms_of_isometry = math.sqrt(min(fan_in, fan_out) / (fan_in * fan_out))
    assert shape_factor("adam_rms", fan_in, fan_out) * rms_of_isometry == pytest.approx(0.2)


def test_an_unknown_rule_is_an_error_that_lists_the_known():
    with pytest.raises(ValueError, match=r"'spectral'; use one of \['adam_rms', 'jordan'"):
        shape_factor("spectral", 2, 2)


def test_the_factor_comes_from_the_matrix_view_not_from_the_array():
    """A convolution HWIO is 3·3·4 → 72: √(72/36), which no two axes of the array give."""
    x = {"conv": jnp.ones((3, 3, 4, 72))}
    tx = scale_by_shape("jordan", dims={"conv": MuonDimensionNumbers((0, 1, 2), 3)})
    scaled, _ = tx.update(x, tx.init(x))
    np.testing.assert_allclose(scaled["conv"], math.sqrt(2), rtol=1e-6)
