"""What theory says of any matrix, said of the matrices that hypothesis draws."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from properties import (
    KINDS,
    SPECTRAL,
    every_polar,
    examples,
    matrices,
    normalized,
    rounding,
    with_spectra,
)
from reference import singular_values, wide
from tolerances import gain

from muon_optax import NewtonSchulz, theory
from muon_optax.coefficients import taylor


@pytest.fixture(autouse=True)
def wide_types(x64):
    """float64 and complex128 among the dtypes; the others stay what they are."""


@pytest.mark.parametrize(("dtype", "shape"), KINDS, ids=str)
def test_an_update_keeps_the_share_of_the_nuclear_norm_that_theory_says(dtype, shape):
    """Of every matrix that of its own spectrum, and never less than the bound for its rank."""
    known = {k: m for k, m in SPECTRAL.items() if m.normalize in ("frobenius", "schatten4")}

    @examples(4)
    @given(matrices(shape, dtype))
    def law(x):
        found = every_polar(x)
        for a, sigma, i in zip(wide(x), singular_values(x), range(len(x))):
            if not sigma.any():
                continue
            for name, method in known.items():
                inner = np.vdot(a, wide(found[name][i])).real / sigma.sum()
                exact = theory.alignment(method.schedule, sigma, method.normalize)
                # ⟨a, e⟩ is at most the operator norm of an error e times the nuclear norm of a.
                assert abs(inner - exact) <= rounding(method, x), name
                assert inner >= least[name] - rounding(method, x), name

    least = {k: alignment_bound(m, min(shape)) for k, m in known.items()}
    law()


@functools.cache
def alignment_bound(method, rank):
    return theory.alignment_bound(method.schedule, rank, method.normalize)


TAYLOR = {
    (kappa, q): NewtonSchulz(taylor(kappa), q, form="direct")
    for kappa in (1, 2, 4)
    for q in (1, 3, 5)
}


@jax.jit
def every_taylor(x):
    return {steps: method.polar(x) for steps, method in TAYLOR.items()}


@examples(12)
@given(with_spectra((4, 4), "float64", st.floats(0.01, 1)))
def test_residual_and_error_of_the_papers_family_are_the_papers(x):
    """With its bound, doubly exponential in q, and what is kept of the nuclear norm: 1 - ε."""
    u, sigma, vh = np.linalg.svd(x)
    found = every_taylor(jnp.asarray(x))
    for (kappa, q), method in TAYLOR.items():
        y = np.asarray(found[kappa, q])
        residuals = 1 - singular_values(y).min(-1) ** 2
        errors = singular_values(y - u @ vh).max(-1)
        kept = (x * y).sum((-2, -1)) / sigma.sum(-1)
        for i, low in enumerate(normalized(method, sigma)[:, -1]):
            # 1 - δ_0 = low² is known to eps, low to eps/low, which grows as errors do.
            atol = rounding(method, x) + gain(method) * float(jnp.finfo(x.dtype).eps) / low
            delta = theory.residual(1 - low**2, kappa, q)
            assert residuals[i] == pytest.approx(delta, abs=2 * atol)
            assert residuals[i] <= theory.residual_bound(1 - low**2, kappa, q) + 2 * atol
            assert errors[i] == pytest.approx(theory.polar_error(delta), abs=atol)
            assert kept[i] >= 1 - theory.polar_error(delta) - atol
