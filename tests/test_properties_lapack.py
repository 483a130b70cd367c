"""The ratios by which LAPACK judges a factorisation, for the polar one: U and H = sym(Uᴴ·X).

Each is an error over eps, the short side n and the norm of what is compared; see Higham,
Functions of Matrices, chapter 8. LAPACK's own tests allow 30.
"""

import functools
import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from properties import examples, with_spectra
from reference import singular_values, wide

from muon_optax import SVD, NewtonSchulz, theory
from muon_optax._schedules import find_family

# ‖I - UᴴU‖, ‖X - UH‖, ‖H - Hᴴ‖: twice the worst of 54000 random matrices, which was 6.3, 11.9,
# 23.5 (LAPACK's own singular vectors, in float64) and 1.9, 5.8, 11.7 (Polar Express).
MOST = {"svd": (13, 24, 47), "polar_express": (4, 12, 24), "taylor2": (4, 12, 24)}
KINDS = [
    ((8, 8), "float32", 1e1),
    ((3, 8), "float32", 1e5),
    ((8, 8), "complex64", 1e3),
    ((8, 8), "float64", 1e12),
]


@pytest.fixture(autouse=True)
def wide_types(x64):
    """float64 and complex128 among the dtypes; the others stay what they are."""


@functools.cache
def exact(family, condition, rank, eps, form):
    """The fewest steps after which the scalar map leaves nothing but rounding."""
    low = 1 / (condition * math.sqrt(rank))
    family = find_family(family)
    steps = next(
        q for q in range(1, 64) if theory.sup_error(family.schedule(q), low) <= max(eps, 1e-15)
    )
    return NewtonSchulz(family, steps, form=form)


def polars(shape, dtype, condition, form):
    """Of a method each: a function from matrices to their polar factors."""
    families = [name for name in MOST if name != "svd"]
    eps = float(jnp.finfo(dtype).eps)
    methods = {name: exact(name, condition, min(shape), eps, form) for name in families}
    methods |= {"svd": SVD()} if form == "direct" else {}
    return jax.jit(lambda x: {name: method.polar(x) for name, method in methods.items()})


def errors(x, u):
    """`‖I - UᴴU‖`, `‖X - UH‖` over that of X, `‖H - Hᴴ‖` over that of H: the worst of each."""
    if x.shape[-2] < x.shape[-1]:
        x, u = x.conj().mT, u.conj().mT
    h = u.conj().mT @ x
    symmetric = (h + h.conj().mT) / 2
    sizes = [np.linalg.norm(a, axis=(-2, -1)) for a in (x, h)]
    off = (np.eye(x.shape[-1]) - u.conj().mT @ u, x - u @ symmetric, h - h.conj().mT)
    found = [np.linalg.norm(a, axis=(-2, -1)) for a in off]
    return [(f / size).max() for f, size in zip(found, (1, *sizes))]


def conditioned(shape, dtype, condition):
    values = st.one_of(
        st.sampled_from([1.0, 1 / condition]), st.floats(-1, 0).map(lambda t: condition**t)
    )
    return with_spectra(shape, dtype, values).map(lambda x: jnp.asarray(x, dtype))


@pytest.mark.parametrize(("shape", "dtype", "condition"), KINDS)
def test_factors_are_as_good_as_lapacks_whatever_the_condition(shape, dtype, condition):
    """By the SVD, and by products in the direct form of a family that does not collapse."""
    find, unit = polars(shape, dtype, condition, "direct"), min(shape) * jnp.finfo(dtype).eps

    @examples(10)
    @given(conditioned(shape, dtype, condition))
    def law(x):
        for name, u in find(x).items():
            for found, most in zip(errors(wide(x), wide(u)), MOST[name], strict=True):
                assert found <= most * unit, name

    law()


@pytest.mark.parametrize(("shape", "dtype", "condition"), KINDS[1:])
def test_the_gram_form_costs_half_of_the_digits(shape, dtype, condition):
    """4·√eps; of 54000 random matrices the worst had 1.4·√eps."""
    find, root = polars(shape, dtype, condition, "gram"), math.sqrt(jnp.finfo(dtype).eps)

    @examples(10)
    @given(conditioned(shape, dtype, condition))
    def law(x):
        for name, u in find(x).items():
            assert max(errors(wide(x), wide(u))) <= 4 * root, name

    law()


@pytest.mark.parametrize(
    ("shape", "dtype"), [((8, 8), "float32"), ((3, 8), "complex64"), ((8, 8), "float64")]
)
def test_of_a_singular_matrix_u_is_an_isometry_on_the_range_and_h_positive(shape, dtype):
    """U's singular values are 1, as many as the rank, or 0; no eigenvalue of H is negative."""
    values = st.one_of(st.just(0.0), st.just(1.0), st.floats(0.01, 1))
    unit = min(shape) * float(jnp.finfo(dtype).eps)

    @examples(15)
    @given(with_spectra(shape, dtype, values))
    def law(exact):
        x = jnp.asarray(exact, dtype)
        u = wide(SVD().polar(x))
        sigma, rank = singular_values(u), (singular_values(exact) > 5e-3).sum(-1)
        h = u.conj().mT @ wide(x)
        low = np.linalg.eigvalsh((h + h.conj().mT) / 2).min(-1)
        for i, r in enumerate(rank):
            # Twice the worst of 23000 matrices, 2.0 and 0.7.
            np.testing.assert_allclose(sigma[i], np.arange(len(sigma[i])) < r, atol=4 * unit)
            assert low[i] >= -1.4 * unit * np.linalg.norm(exact[i], 2)

    law()
