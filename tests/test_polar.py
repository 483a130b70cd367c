"""The laws of a polar method, over methods, spectra, shapes and dtypes.

How far rounding may take a result from exact arithmetic is in `tolerances.py`.
`test_properties_polar.py` has the laws that hold for any matrix.
"""

from dataclasses import replace

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import export
from reference import (
    matrices_of_spectra,
    matrix_products,
    matrix_with_spectrum,
    newton_schulz,
    singular_values,
    wide,
)
from tolerances import tolerance

from muon_optax import METHODS, SVD, DualNorm, NewtonSchulz, orthogonalize, theory
from muon_optax.batching._bucket import polar_on_device
from muon_optax.coefficients import FAMILIES, JORDAN, Coefficients, taylor

DTYPES = ["float16", "bfloat16", "float32", "complex64", "float64", "complex128"]
# Every dtype once; square, wide and one column in float32 too. Each pair is compiled.
KINDS = [("float32", (6, 6)), ("float32", (7, 1)), *((dtype, (5, 12)) for dtype in DTYPES)]


@pytest.fixture(autouse=True)
def wide_types(x64):
    """float64 and complex128 among the dtypes; the others stay what they are."""


@jax.jit
def every_polar(x):
    """By every method: one program compiles in a third of the time of eleven."""
    return {name: method.polar(x) for name, method in METHODS.items()}


def mapped(method, sigma):
    """What a method makes of singular values, by the scalar theory in float64."""
    if isinstance(method, SVD):
        return (sigma > 1e-2 * 0.5 * sigma.max(axis=-1, keepdims=True)).astype(float)
    order = {"frobenius": 2, "schatten4": 4}[method.normalize]
    norm = (sigma**order).sum(axis=-1, keepdims=True) ** (1 / order)
    return theory.scalar_map(method.schedule, sigma / np.where(norm > 0, norm, 1))


@pytest.mark.parametrize(("dtype", "shape"), KINDS, ids=str)
def test_singular_values_move_by_the_scalar_map(dtype, shape):
    x, sigma = matrices_of_spectra(shape, dtype)
    for name, y in every_polar(x).items():
        method = METHODS[name]
        if isinstance(method, SVD) and dtype in ("float16", "bfloat16"):
            y = SVD(rcond=5e-3).polar(x)  # what was zero has been rounded to eps·σ_max
        assert y.dtype == x.dtype and y.shape == x.shape
        expected = np.sort(mapped(method, sigma), axis=-1)
        found = np.sort(singular_values(wide(y)), axis=-1)
        atol = tolerance(method, dtype)
        np.testing.assert_allclose(found, expected, atol=atol, err_msg=name)


@pytest.mark.device
@pytest.mark.parametrize("name", METHODS)
def test_float32_means_float32_on_every_device(name):
    # TF32 keeps 10 bits of a factor: an error of 2000 times this tolerance's eps.
    x = matrix_with_spectrum(np.random.default_rng(0), 96, 256, np.geomspace(1.0, 0.01, 96))
    x = x.astype(np.float32)
    u, sigma, vh = np.linalg.svd(wide(x), full_matrices=False)
    method = METHODS[name]
    if isinstance(method, NewtonSchulz):
        method = replace(method, compute_dtype="float32")
    expected = (u * mapped(method, sigma)) @ vh
    np.testing.assert_allclose(method.polar(x), expected, atol=tolerance(method, "float32"))


@pytest.mark.parametrize("dtype", ["bfloat16", "complex64"])
def test_polar_of_the_transpose_is_the_transpose(dtype):
    x = matrices_of_spectra((5, 12), dtype)[0]
    tall, straight = every_polar(x.mT), every_polar(x)
    for name, method in METHODS.items():
        atol = tolerance(method, dtype)
        np.testing.assert_allclose(
            wide(tall[name]), wide(straight[name]).mT, atol=atol, err_msg=name
        )


def test_a_batch_is_its_slices():
    x = matrices_of_spectra((5, 12), "float32")[0].reshape(7, 1, 5, 12)
    found, one = every_polar(x), every_polar(x[2, 0])
    for name, method in METHODS.items():
        atol = tolerance(method, "float32")
        np.testing.assert_allclose(found[name][2, 0], one[name], atol=atol, err_msg=name)


@pytest.mark.device
def test_a_power_of_two_changes_no_bit():
    x = matrices_of_spectra((5, 12), "float32")[0]
    x = x.at[5:].set(x[:2])  # full rank: normal numbers at every scale
    expected = every_polar(x)
    for exponent in (-100, -30, 17, 100, 126):
        found = every_polar(x * 2.0**exponent)
        for name in METHODS:
            np.testing.assert_array_equal(found[name], expected[name], name)


def test_scale_does_not_matter_in_float32():
    x = matrices_of_spectra((5, 12), "float32")[0]
    expected = every_polar(x)
    for scale in (1e-30, 1e-12, 1e-3, 1e4, 1e19, 1e30):
        found = every_polar(x * jnp.float32(scale))
        for name, method in METHODS.items():
            atol = 2 * tolerance(method, "float32")
            np.testing.assert_allclose(found[name], expected[name], atol=atol, err_msg=name)


def test_a_tall_matrix_is_worked_on_from_its_short_side():
    text = str(jax.make_jaxpr(NewtonSchulz().polar)(jnp.ones((90, 4))))
    assert "[4,4]" in text and "[90,90]" not in text


@pytest.mark.parametrize("dtype", DTYPES)
def test_smallest_normal_and_largest_finite_numbers_are_as_good_as_one(dtype):
    signs = jnp.sign(jax.random.normal(jax.random.key(0), (7, 5, 12))).astype(dtype)
    expected, info = every_polar(signs), jnp.finfo(dtype)
    for scale in (info.tiny, info.max):
        found = every_polar(signs * jnp.asarray(scale, info.dtype))
        for name, method in METHODS.items():
            atol = tolerance(method, dtype)
            np.testing.assert_allclose(
                wide(found[name]), wide(expected[name]), atol=atol, err_msg=name
            )


@pytest.mark.parametrize("dtype", DTYPES)
def test_zero_stays_zero(dtype):
    zero = jnp.zeros((7, 5, 12), dtype)
    for name, found in every_polar(zero).items():
        assert not found.any(), name


@pytest.mark.device
def test_svd_masks_the_null_space_and_is_exact_on_the_range():
    rng = np.random.default_rng(0)
    sigma = np.array([3.0, 1.0, 0.2, 0.0, 0.0])
    u = np.linalg.qr(rng.standard_normal((5, 5)))[0]
    v = np.linalg.qr(rng.standard_normal((8, 5)))[0]
    found = SVD().polar(jnp.asarray((u * sigma) @ v.T))
    np.testing.assert_allclose(found, u[:, :3] @ v[:, :3].T, atol=1e-14)
    kept_one = SVD(rcond=0.5).polar(jnp.asarray((u * sigma) @ v.T))
    np.testing.assert_allclose(kept_one, u[:, :1] @ v[:, :1].T, atol=1e-14)


@pytest.mark.device
@pytest.mark.parametrize("kappa", [1, 2, 3, 4, 6, 12])
def test_every_degree_equals_the_polynomial_by_definition(kappa):
    """Prime coefficients, so that a swapped or dropped term shows; powers by repeated @."""
    primes = (2, 3, 5, 7, 11, 13, 17, 19, 23, 29, 31, 37, 41)[: kappa + 1]
    stage = tuple(prime / sum(primes) for prime in primes)
    family = Coefficients("primes", (stage,), "repeat", "test")
    x = np.random.default_rng(kappa).standard_normal((4, 6))
    found = NewtonSchulz(family, steps=1).polar(jnp.asarray(x))
    np.testing.assert_allclose(found, newton_schulz(x, family.stages), rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize(
    ("kappa", "products"), [(1, 2), (2, 3), (3, 4), (4, 4), (6, 5), (9, 6), (12, 7)]
)
def test_a_step_takes_the_fewest_products(kappa, products):
    """xxᴴ, one with x, and ⌈√κ⌉ + ⌈κ/⌈√κ⌉⌉ - 2 between: Horner to degree 5, then P.-S."""
    family = Coefficients("equal", ((1 / (kappa + 1),) * (kappa + 1),), "repeat", "test")
    jaxpr = jax.make_jaxpr(NewtonSchulz(family, steps=1).polar)(jnp.ones((4, 6)))
    assert len(matrix_products(jaxpr)) == products


def test_complex_input_conjugates():
    """i·X is X turned by a unit: without the conjugate the Gram matrix would flip its sign."""
    x = matrices_of_spectra((4, 6), "complex128")[0][1]
    np.testing.assert_allclose(SVD().polar(1j * x), 1j * SVD().polar(x), atol=1e-13)
    method = NewtonSchulz(taylor(2), 12)
    np.testing.assert_allclose(method.polar(1j * x), 1j * SVD().polar(x), atol=1e-10)


def test_an_empty_array_comes_back():
    for method in METHODS.values():
        assert method.polar(jnp.zeros((3, 0, 4))).shape == (3, 0, 4)
    for shape in ((0, 4), (4, 0), (0, 0), (0, 3, 4)):
        for method in (NewtonSchulz(), SVD()):
            assert method.polar(jnp.zeros(shape)).shape == shape


@pytest.mark.device
def test_a_broken_matrix_does_not_spoil_its_neighbours():
    x, others = matrices_of_spectra((5, 12), "float32")[0], np.arange(7) != 1
    expected = every_polar(x)
    for poison in (jnp.nan, jnp.inf):
        for name, found in every_polar(x.at[1, 2, 3].set(poison)).items():
            assert not jnp.isfinite(found[1]).all(), name
            np.testing.assert_array_equal(found[others], expected[name][others], name)


def test_equal_configurations_are_traced_once():
    traces = []
    run = jax.jit(lambda x, method: (traces.append(1), method.polar(x))[1], static_argnums=1)
    x = jnp.ones((3, 4))
    for method in (NewtonSchulz("jordan"), NewtonSchulz(JORDAN, 5), NewtonSchulz()):
        run(x, method)
    assert len(traces) == 1
    assert NewtonSchulz("jordan") == NewtonSchulz(FAMILIES["jordan"])
    assert NewtonSchulz(compute_dtype=jnp.bfloat16) == NewtonSchulz(compute_dtype="bfloat16")


@pytest.mark.slow
def test_stacks_together_equal_one_call_each():
    """Of one short side, several long ones and scales; tall ones and broken ones among them."""
    method, rng = NewtonSchulz(), np.random.default_rng(0)
    shapes = [(2, 8, 13), (1, 32, 8), (3, 8, 40), (1, 8, 8), (2, 8, 13)]
    scales = [1e-20, 1.0, 1e5, 1e-3, 0.0]
    stacks = [jnp.float32(s * rng.standard_normal(x)) for s, x in zip(scales, shapes)]
    stacks += [stacks[0].astype("bfloat16"), stacks[0].at[1].set(jnp.nan), stacks[2][0]]
    expected = [wide(method.polar(x)) for x in stacks]
    found, _ = polar_on_device(method, "cpu", stacks, [None] * len(stacks))
    for y, x, e in zip(found, stacks, expected, strict=True):
        assert y.dtype == x.dtype
        np.testing.assert_allclose(wide(y), e, atol=tolerance(method, x.dtype))


def test_stacks_of_one_short_side_share_a_batch_of_gram_matrices():
    stacks = [jnp.ones((2, 8, n)) for n in (16, 32, 40)]
    polars = lambda xs: polar_on_device(NewtonSchulz(), "cpu", xs, [None] * len(xs))[0]
    jaxpr = jax.make_jaxpr(polars)(stacks)
    small = 2 * 8**3 * sum(len(x) for x in stacks)
    assert matrix_products(jaxpr).count(small) == 5 + 4 * 3  # what one batch of all takes


def test_a_batch_may_be_symbolic():
    (batch,) = export.symbolic_shape("b")
    x = jax.ShapeDtypeStruct((batch, 4, 9), jnp.float32)
    exported = export.export(jax.jit(NewtonSchulz().polar))(x)
    y = jax.random.normal(jax.random.key(0), (3, 4, 9), "float32")
    np.testing.assert_allclose(exported.call(y), NewtonSchulz().polar(y), atol=1e-6)


@pytest.mark.parametrize("dtype", ["bfloat16", "float32", "complex128"])
def test_dual_norm_multiplies_the_exact_factor_by_the_nuclear_norm(dtype):
    sigma = np.array([[3.0, 2.0, 1.0], [0.5, 0.0, 0.0], [0.0, 0.0, 0.0]])
    rng = np.random.default_rng(0)
    kind = np.dtype("complex128" if dtype == "complex128" else "float64")
    x = jnp.asarray(np.stack([matrix_with_spectrum(rng, 3, 5, s, kind) for s in sigma]), dtype)
    nuclear = singular_values(x).sum(-1)
    found = DualNorm(SVD(rcond=1e-2)).polar(x)
    assert found.dtype == x.dtype
    expected = nuclear[:, None, None] * wide(SVD(rcond=1e-2).polar(x))
    atol = 40 * float(jnp.finfo(dtype).eps) * nuclear.max()
    np.testing.assert_allclose(wide(found), expected, atol=atol)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (
            lambda: NewtonSchulz("quintic"),
            r"unknown family 'quintic'; use one of .*taylor\(kappa",
        ),
        (lambda: NewtonSchulz("you", 6), "steps=6 exceeds the 5 stages of 'you'"),
        (lambda: NewtonSchulz(steps=0), "steps=0; use a whole number ≥ 1"),
        (lambda: NewtonSchulz(steps=2.0), "steps=2.0; use a whole number"),
        (
            lambda: NewtonSchulz(normalize="nuclear"),
            "normalize='nuclear'; use one of .*'aol'",
        ),
        (lambda: NewtonSchulz(eps=-1.0), "eps=-1.0; use a number ≥ 0"),
        (lambda: NewtonSchulz(eps=float("nan")), "eps=nan; use a number"),
        (lambda: NewtonSchulz(eps=jnp.ones(())), "eps=Array.*use a number ≥ 0"),
        (
            lambda: NewtonSchulz(eps=1e-7, normalize="aol"),
            "eps=1e-07 cannot .* normalize='aol'",
        ),
        (
            lambda: NewtonSchulz(compute_dtype="int8"),
            "compute_dtype='int8'; use None or one of",
        ),
        (lambda: NewtonSchulz(compute_dtype="fp16"), "compute_dtype='fp16'; use None or one"),
        (lambda: NewtonSchulz().plan(3, -1), "n=-1; use a whole number ≥ 0"),
        (lambda: orthogonalize(jnp.ones((2, 2)), "svg"), "unknown name 'svg'"),
        (lambda: DualNorm("svd"), r"method='svd'; use .*SVD\(\)"),
        (lambda: SVD(rcond=1.5), r"rcond=1.5; use None or a number in \[0, 1\)"),
        (lambda: orthogonalize(jnp.ones(3)), r"shape \(3,\), float.*at least two axes"),
        (lambda: SVD().polar(jnp.ones(3)), r"at least two axes, \[..., m, n\]"),
        (
            lambda: orthogonalize(jnp.ones((2, 2), int)),
            r"int64\): only real or complex floats can be trained",
        ),
    ],
)
def test_bad_arguments_say_what_to_write(make, message):
    with pytest.raises(ValueError, match=message):
        make()
