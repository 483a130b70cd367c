"""Published coefficients, under the normalization that they were published for."""

import re
from dataclasses import replace

import jax.numpy as jnp
import numpy as np
import pytest
from reference import newton_schulz, singular_values

from muon_optax import NewtonSchulz
from muon_optax.coefficients import JORDAN, POLAR_EXPRESS, YOU, Coefficients
from muon_optax.compat import scale_by_muon

# The list in the first public version of thib-s/flash-newton-schulz (b73111d), which its author
# replaced eight days later. NVIDIA's Emerging-Optimizers has it still, over the Frobenius norm.
FIRST_AOL = (
    (4.0098, -7.0585, 2.4635),
    (3.4585, -5.5479, 2.5959),
    (2.7573, -3.2939, 1.4254),
    (2.7215, -3.0494, 1.3169),
)
PUBLISHED = {
    "Turbo-Muon, arXiv 2512.04632": YOU.stages[1:],
    "flash-newton-schulz at cdb03db": (
        (4.6051, -9.6552, 5.6769),
        (4.7505, -6.0861, 2.1790),
        (2.7763, -2.3190, 0.5523),
        (2.4231, -2.2861, 0.8193),
    ),
    "Emerging-Optimizers, cans": (
        (8.4703, -25.1081, 18.6293),
        (4.1828, -3.1087, 0.5806),
        (3.9619, -2.9541, 0.5630),
        (3.2866, -2.4647, 0.5074),
        (2.2737, -1.6447, 0.4162),
    ),
    "Emerging-Optimizers, cubic5": (
        (3.3656576, -3.3420992, 0.0),
        (2.5744352, -1.4957376, 0.0),
        (2.5368962, -1.4312570, 0.0),
        (2.4418906, -1.2764040, 0.0),
        (2.2230472, -0.9630650, 0.0),
    ),
    "DeepSeek-V4": JORDAN.stages * 8 + ((2.0, -1.5, 0.5),) * 2,
    "Gram-Newton-Schulz, polar_express": replace(POLAR_EXPRESS, safety=1.05).schedule(5),
}


def family(stages):
    return Coefficients("published", stages, "fixed", "see PUBLISHED")


def divided_by_aol(x):
    return x / np.sqrt(np.abs(x @ x.T).sum(axis=1, keepdims=True))


def rank_one():
    rng = np.random.default_rng(0)
    return np.outer(rng.standard_normal(6), rng.standard_normal(9)).astype(np.float32)


@pytest.mark.parametrize("source", PUBLISHED)
def test_published_coefficients_are_accepted_without_a_word(source):
    stages = PUBLISHED[source]
    NewtonSchulz(family(stages), len(stages), "aol")
    scale_by_muon(stages, len(stages), preconditioning="aol")


def test_turbo_muon_is_aol_and_the_last_four_of_five_polynomials():
    x = np.random.default_rng(0).standard_normal((4, 9)).astype(np.float32)
    y = divided_by_aol(x.astype(np.float64))
    turbo = NewtonSchulz(family(YOU.stages[1:]), 4, "aol")
    expected = newton_schulz(y / np.linalg.norm(y), ((np.linalg.norm(y),), *YOU.stages[1:]))
    np.testing.assert_allclose(turbo.polar(jnp.asarray(x)), expected, atol=2e-6)


@pytest.mark.parametrize(
    "x",
    [
        np.array([[1.0, 2.0, 3.0], [3.0, -1.0, 0.5]]),
        np.diag([1.0, 5.0, 1e-3]),
        np.outer([1.0, -2.0, 3.0], [1.0, 4.0, -2.0, 1.0]),
    ],
    ids=["two rows", "orthogonal rows", "rank one"],
)
def test_aol_leaves_a_singular_value_at_the_limit_of_1(x):
    """So it gives no schedule a margin that other normalizations do not."""
    y = NewtonSchulz(family(((1.0,),)), 1, "aol").polar(jnp.asarray(x, jnp.float32))
    np.testing.assert_allclose(singular_values(np.asarray(y)).max(), 1, rtol=1e-6)


@pytest.mark.parametrize("normalize", ["frobenius", "schatten4", "aol", "spectral"])
def test_what_is_refused_is_accepted_by_the_argument_that_the_error_names(normalize):
    """Emerging-Optimizers' `aol` is the first case. All turn the momentum of rank one."""
    settings = {"coefficients": family(FIRST_AOL), "steps": 4, "normalize": normalize}
    with pytest.raises(
        ValueError, match=r"stage 1 makes singular values in \[0\.88369"
    ) as refused:
        NewtonSchulz(**settings)
    name, value = re.search(r"pass (\w+)=(True)$", str(refused.value)).groups()
    x = rank_one()
    found = NewtonSchulz(**settings, **{name: value == "True"}).polar(jnp.asarray(x))
    y = divided_by_aol(x) if normalize == "aol" else x
    np.testing.assert_allclose(found, newton_schulz(y, FIRST_AOL), atol=2e-5)
    assert (found * x).sum() < -0.8 * np.linalg.norm(x)


def test_a_published_run_in_bfloat16_can_be_repeated_in_bfloat16():
    settings = {"steps": 8, "compute_dtype": "bfloat16"}
    with pytest.raises(ValueError, match=r"safety=1\.03\).*pass allow_unstable=True"):
        NewtonSchulz("polar_express", **settings)
    method = NewtonSchulz("polar_express", **settings, allow_unstable=True)
    x = np.random.default_rng(0).standard_normal((6, 9)).astype(np.float32)
    assert method.plan(6, 9).dtype == "bfloat16"
    expected = newton_schulz(x, method.schedule)
    assert 1e-4 < np.abs(method.polar(jnp.asarray(x)) - expected).max() < 0.05


def test_to_allow_what_is_stable_changes_nothing():
    x = jnp.asarray(np.random.default_rng(0).standard_normal((6, 9)), jnp.float32)
    allowed = NewtonSchulz("cans", 5, allow_unstable=True)
    assert (allowed.polar(x) == NewtonSchulz("cans", 5).polar(x)).all()
    for platform in ("cpu", "gpu", "tpu"):  # float32 where bfloat16 would be unstable
        assert allowed.plan(6, 9, platform=platform).dtype == "float32"
