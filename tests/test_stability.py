"""A schedule that reverses signs or diverges on normalised matrices is refused."""

import itertools
import re
from dataclasses import replace

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from reference import product_dtypes, singular_values

from muon_optax import METHODS, NewtonSchulz
from muon_optax.coefficients import CANS, FAMILIES, POLAR_EXPRESS, Coefficients, minimax
from muon_optax.polar._stability import find_instability

DTYPES = ("float16", "bfloat16", "float32", "float64")
# A public list, made for another scaling: below 0 from 0.884 on, where a matrix of rank one is.
AOL = Coefficients("aol", ((4.0098, -7.0585, 2.4635),), "repeat", "Turbo-Muon")


def eps(dtype):
    return float(jnp.finfo(dtype).eps)


def rank_one(shape):
    """Eight matrices of rank one, the first of equal entries, whose roundings add up."""
    rng = np.random.default_rng(0)
    u, v = rng.standard_normal((2, 7, max(shape)))
    x = u[:, : shape[0], None] * v[:, None, : shape[1]]
    return np.concatenate([np.ones((1, *shape)), x]).astype(np.float32)


def along(method, x):
    """`⟨x, polar(x)⟩/‖x‖_F`: for a matrix of rank one what becomes of its singular value."""
    y = np.asarray(method.polar(jnp.asarray(x)), np.float64)
    return (y * x).sum((-2, -1)) / np.linalg.norm(x, axis=(-2, -1))


@pytest.mark.device
@pytest.mark.parametrize(
    ("form", "dtype"), [("direct", "bfloat16"), ("gram", "float16"), ("gram", "float32")]
)
@pytest.mark.parametrize("name", [name for name in METHODS if name != "svd"])
def test_an_update_of_rank_one_points_along_its_momentum(name, form, dtype):
    """Whatever is not refused; what an accelerator takes by default is among it."""
    method = replace(METHODS[name], form=form)
    if find_instability(method.schedule, eps(dtype)):
        with pytest.raises(
            ValueError, match=r"makes singular values .* negative|may raise singular values to"
        ):
            replace(method, compute_dtype=dtype)
        return
    small = np.pad(rank_one((3, 7)), ((0, 0), (0, 30), (0, 93)))
    x = np.concatenate([small, rank_one((33, 100))])
    found = along(replace(method, compute_dtype=dtype), x)
    assert found.min() > 0.5 and found.max() < 1.5


THIN = [CANS, POLAR_EXPRESS, minimax(4, 3e-3, cushion=0.02), minimax(6, 1e-3, kappa=1)]


@pytest.mark.slow
@pytest.mark.parametrize("family", THIN[:2], ids=lambda family: family.name)
def test_a_refused_schedule_does_go_wrong(family, monkeypatch):
    """Of matrices of nearly equal entries CANS turns every other, Polar Express breaks 7 %."""
    monkeypatch.setattr(NewtonSchulz, "_check_stability", lambda self: None)
    rng = np.random.default_rng(0)
    noise = 10 ** rng.uniform(-4, 0, (4000, 1, 1)) * rng.standard_normal((4000, 16, 40))
    x = np.float32(1 + noise)
    half = NewtonSchulz(family, 12, "schatten4", compute_dtype="bfloat16")
    found = along(half, x)
    assert (found < -0.5).any() or not np.isfinite(found).all()
    exact = replace(half, compute_dtype="float32")
    assert along(exact, x).min() > 0 and singular_values(exact.polar(x)).max() < 1.01


@pytest.mark.parametrize(
    ("kappa", "lower"), [(1, 1e-3), (2, 1e-2), (2, 1e-3), (3, 1e-3), (4, 1e-2)]
)
def test_the_margin_that_a_message_names_is_the_least_that_works(kappa, lower):
    refused = 0
    for steps, dtype in itertools.product((2, 4, 6), ("float16", "bfloat16")):
        family = minimax(steps, lower, kappa)
        try:
            NewtonSchulz(family, steps, compute_dtype=dtype)
        except ValueError as error:
            refused += 1
            named = re.search(r"safety=([\d.]+)\)", str(error))
            margins = [m for m in (1.01, 1.02, 1.03, 1.05, 1.1, 1.2, 1.3, 1.5)]
            least = float(named[1]) if named else 9.0
            for safety in margins:
                given = replace(family, safety=safety)
                unstable = find_instability(given.schedule(steps), eps(dtype))
                assert bool(unstable) == (safety < least)
    assert refused


@pytest.mark.parametrize("family", THIN, ids=lambda family: family.source[:30])
def test_with_the_margin_that_is_named_updates_are_right(family):
    with pytest.raises(ValueError, match=r"safety=1\.0\d") as refused:
        NewtonSchulz(family, 6, compute_dtype="bfloat16")
    safety = float(re.search(r"safety=([\d.]+)\)", str(refused.value))[1])
    mended = NewtonSchulz(replace(family, safety=safety), 6, compute_dtype="bfloat16")
    found = along(mended, rank_one((33, 100)))
    assert found.min() > 0.5 and found.max() < 2


@pytest.mark.parametrize("family", FAMILIES)
def test_published_families_are_accepted_in_float32_at_every_length(family):
    of_it = FAMILIES[family]
    longest = 99 if of_it.tail == "repeat" else len(of_it.stages)
    for steps in {*range(1, 13), 99} & {*range(1, longest + 1)}:
        NewtonSchulz(family, steps, compute_dtype="float32")


@pytest.mark.parametrize("form", ["direct", "gram"])
def test_the_check_is_not_a_proof(form):
    """A margin that is barely enough for a number, and too little for a matrix."""
    barely = NewtonSchulz(replace(minimax(4, 3e-3), safety=1.233), 6, form=form)
    x = np.full((1, 48, 80), 1.6, np.float32)
    assert along(barely, x) > 0.5
    assert along(replace(barely, compute_dtype="bfloat16"), x) < -0.5


def test_without_x64_float64_is_judged_as_float32():
    """Without jax_enable_x64. The stage turns the sign at 1 + 1e-8."""
    barely = Coefficients("barely", ((1 + 2e-8, -1.0),), "repeat", "here")
    with pytest.raises(ValueError, match=r"makes singular values in .* negative"):
        NewtonSchulz(barely, 1, compute_dtype="float64")
    jax.config.update("jax_enable_x64", True)
    try:
        NewtonSchulz(barely, 1, compute_dtype="float64")
    finally:
        jax.config.update("jax_enable_x64", False)


@pytest.mark.parametrize("platform", ["cpu", "cuda", "tpu"])
def test_an_accelerator_takes_float32_where_bfloat16_would_reverse_a_sign(platform):
    """Read off the program that is lowered for a platform, which need not be this one."""
    half = "f32" if platform == "cpu" else "bf16"
    for coefficients, operand in (("cans", "f32"), (replace(CANS, safety=1.03), half)):
        method = NewtonSchulz(coefficients, 12)
        found = product_dtypes(method.polar, platform, (4, 9), "float32")
        assert {dtype for *factors, _ in found for dtype in factors} == {operand}


@pytest.mark.parametrize(
    ("stages", "found"),
    [
        (AOL.stages, r"stage 1 makes singular values in \[0.883698, 1\] negative"),
        (((1.5, -0.5), (-1.0,)), r"stage 2 makes singular values in \[0, 1\] negative"),
        (((0.0, 1.0),), r"stage 1 makes singular values in \[0, 1\] negative"),
        (((2.0,),), r"even without rounding, singular values reach 2; the limit is 2"),
        (((1.0,) * 13,), r"stage 1 may raise singular values to 13"),
        (((2.6,), (2.6,), (0.1,)), r"stage 2 may raise singular values to 6.76"),
        (((1.9999,),), ""),
        (((2.9,), (0.5,)), ""),
        (((1.0, 0.0),), ""),
    ],
)
def test_the_message_has_the_stage_and_the_interval(stages, found):
    family = Coefficients("mine", stages, "fixed", "test")
    if not found:
        NewtonSchulz(family, len(stages))
        return
    message = rf"'mine' is unstable in float32: normalize='aol' .*{found}.*other coefficients"
    with pytest.raises(ValueError, match=message):
        NewtonSchulz(family, len(stages), normalize="aol")


def test_every_rounding_of_a_stage_counts_once():
    """Of 2.9·x by 1 + 1.5·u before and 1 + 3.5·u behind, u half of eps: 3 at eps = 0.0137."""
    schedule = ((2.9,), (0.5,))
    assert not find_instability(schedule, 0.0134)
    assert "3.00" in find_instability(schedule, 0.0140)
