"""The comparison of polar methods: what it says is right, and what is wrong it shows."""

import json
from dataclasses import dataclass, replace
from unittest.mock import ANY

import jax
import numpy as np
import pytest

from benchmarks.polar.matrices import SPECTRA, make, rank
from muon_optax import FLAX, METHODS, SVD, Comparison, NewtonSchulz, compare, theory
from muon_optax.coefficients import JORDAN
from muon_optax.comparison import _extrapolation, _measure, _timing
from muon_optax.comparison._accuracy import decompose, judge
from muon_optax.comparison._cases import list_cases
from muon_optax.comparison._comparison import Judgement, Time


@pytest.fixture(autouse=True)
def quick(monkeypatch):
    """One call a sample, and no pause before it."""
    monkeypatch.setattr(_timing, "SAMPLE_S", 0.0)
    monkeypatch.setitem(_timing.PAUSE_S, "cpu", 0.0)


@dataclass(frozen=True)
class Altered:
    """The exact polar factor, and something done to it."""

    alter: str

    def polar(self, x):
        y = SVD().polar(x)
        return {"0.6": 0.6 * y, "transposed": y.mT, "zeros": 0 * y, "nan": y / 0}[self.alter]


@pytest.mark.parametrize("spectrum", SPECTRA)
def test_accuracy_agrees_with_the_scalar_map_in_float64(spectrum):
    """What Jordan's steps make of each singular value is known without any matrix."""
    x = make(spectrum, 1, 24, 64, "float32")[0]
    found = compare({"w": x}, ["jordan"], momenta={"w": x}, dims=None).judgements[0]
    sigma = np.linalg.svd(x.astype(np.float64), compute_uv=False)[: rank(spectrum, 24, 64)]
    out = theory.scalar_map(JORDAN.schedule(5), sigma / np.linalg.norm(sigma))
    close = {"abs": 9e-4}  # what the Gram form's roundings stay under; see test_plan.py
    assert found.error == pytest.approx(np.sqrt(np.mean((out - 1) ** 2)), **close)
    assert found.band == pytest.approx([out.min(), out.max()], **close)
    assert found.alignment == pytest.approx(sigma @ out / sigma.sum(), **close)
    assert found.orthogonality == pytest.approx(np.sqrt(np.mean((out**2 - 1) ** 2)), **close)
    assert found.reached == pytest.approx(np.mean(np.abs(out - 1) <= 1 / 3), abs=1e-6)


@pytest.mark.parametrize(
    ("alter", "wrong"),
    [
        ("0.6", {"error": 0.4, "alignment": 0.6, "orthogonality": 0.64}),
        ("transposed", {}),  # still orthogonal: only what compares with the matrix can tell
        ("zeros", {"error": 1.0, "alignment": 0.0, "orthogonality": 1.0}),
    ],
)
def test_every_column_that_should_shows_a_wrong_method(alter, wrong):
    found = compare("16x16", {"jordan": METHODS["jordan"], "wrong": Altered(alter)})
    _, of_it = found.judgements
    assert {name: getattr(of_it, name) for name in wrong} == pytest.approx(wrong, abs=1e-5)
    band = {"0.6": 0.6, "transposed": 1.0, "zeros": 0.0}[alter]
    assert of_it.band == pytest.approx([band, band], abs=1e-5)
    assert of_it.error > 0.3 and of_it.alignment < 0.7 and of_it.reached < 0.3
    assert "jordan is the fastest" in found.verdict and "wrong is left out" in found.verdict


def test_what_is_not_finite_is_said_to_be():
    found = compare("8x8", {"nan": Altered("nan")})
    assert found.judgements[0].error is None
    assert "not finite" in str(found) and "nan is left out" in found.verdict


def test_what_is_put_into_a_null_space_is_an_error():
    x = make("half rank", 1, 16, 24, "float64")[0]
    full, half = decompose(x, 16), decompose(x)
    assert len(half.sigma) == 8
    assert judge(half, full.polar)["error"] == pytest.approx(1.0)


@pytest.fixture
def model():
    """A wide and a tall kernel, a fused one and a vector; its momenta."""
    shapes = {"up": (8, 24), "down": (24, 8), "norm": (8,)}
    params = {
        name: {"kernel": jax.ShapeDtypeStruct(s, "float32")} for name, s in shapes.items()
    }
    rng = np.random.default_rng(0)
    momenta = jax.tree.map(lambda x: rng.standard_normal(x.shape, np.float32), params)
    return params, momenta


def test_matrices_of_a_model_of_one_shape_are_compared_together_and_by_leaf(model):
    params, momenta = model
    found = compare(params, "jordan", momenta=momenta)
    (time,) = found.times
    assert (time.count, time.m, time.n) == (2, 8, 24)
    assert [judgement.leaf for judgement in found.judgements] == ["down/kernel", "up/kernel"]
    exact = decompose(momenta["up"]["kernel"])
    o = np.asarray(NewtonSchulz().polar(momenta["up"]["kernel"]))
    assert found.judgements[1].error == pytest.approx(judge(exact, o)["error"], rel=1e-3)
    assert "up/kernel" in str(found)


def test_a_leaf_of_zeros_is_timed_by_others_and_not_judged(model):
    params, momenta = model
    momenta["up"]["kernel"][:] = 0
    (case,) = list_cases(params, FLAX, momenta, None)
    np.testing.assert_array_equal(case.make(2), [momenta["down"]["kernel"].T] * 2)
    found = compare(params, "jordan", momenta=momenta)
    assert found.times[0].count == 2
    assert [judgement.leaf for judgement in found.judgements] == ["down/kernel"]
    momenta["down"]["kernel"][:] = 0  # as before the first step
    found = compare(params, "jordan", momenta=momenta)
    assert found.times[0].ms and not found.judgements


@pytest.mark.parametrize(
    ("alter", "said"),
    [(np.transpose, "has shape \\(24, 8\\)"), (lambda x: x / 0, "is not finite; pass")],
    ids=["transposed", "infinite"],
)
@pytest.mark.filterwarnings("ignore:divide by zero:RuntimeWarning")
def test_what_is_no_momentum_of_a_leaf_is_refused(alter, said, model):
    params, momenta = model
    momenta["up"]["kernel"] = alter(momenta["up"]["kernel"])
    with pytest.raises(ValueError, match=f"leaf 'up/kernel' .* its momentum .*{said}"):
        compare(params, "jordan", momenta=momenta)


def test_interrupting_keeps_what_is_done():
    class Interrupted:
        def polar(self, x):
            if x.shape[-1] == 9:
                raise KeyboardInterrupt
            return x

    found = compare(["8x8", "9x9"], {"jordan": METHODS["jordan"], "it": Interrupted()})
    assert found.interrupted
    assert [(time.method, time.m) for time in found.times] == [("jordan", 8), ("it", 8)]
    assert len(found.judgements) == 2


def test_a_long_call_is_estimated_from_smaller_ones_and_said_to_be(monkeypatch):
    monkeypatch.setattr(_measure, "_LARGE", 0)
    monkeypatch.setattr(_extrapolation, "PATIENCE_S", 0.0)
    found = compare("16x32", "jordan")
    assert found.times[0].note == "estimated from 4×8 and 8×16"
    assert not found.judgements
    assert "≈" in str(found)


def test_an_estimate_that_leaves_something_out_is_a_bound_everywhere():
    shape = {"count": 2, "m": 8, "n": 8, "dtype": "float32"}
    svd = Time("svd", ms=(6.0,), note="loops count once", at_least=True, **shape)
    times = (Time("jordan", ms=(2.0,), note="estimated", **shape), svd)
    found = Comparison(times, (), target="v5e")
    said = [line.split() for line in str(found).splitlines()]
    jordan, exact, all_jordan, all_exact = said[2:6]
    assert jordan[5:9] == ["≈", "2", "≥", "3"] and exact[1:3] == ["≥", "6"]
    assert all_jordan[-4:] == ["≈", "0.004", "≥", "3"] and all_exact[-2:] == ["≥", "0.012"]
    assert "at least 3.0 times as fast as the SVD" in found.verdict


def judgement(method, error):
    reached = None if error is None else float(error < 1)
    return Judgement(method, "", 8, 8, "float32", error, None, None, None, reached)


def test_the_verdict_claims_what_was_measured_of_all_matrices():
    shape = {"count": 1, "m": 8, "dtype": "float32"}
    seconds = {"svd": 6.0, "jordan": 2.0, "broken": 1.0, "exact": 3.0}
    rows = [Time(name, ms=(ms,), n=8, **shape) for name, ms in seconds.items()]
    rows += [replace(row, n=9, note="estimated" * (row.method == "svd")) for row in rows]
    rows.append(Time("interrupted", ms=(1.0,), n=8, **shape))
    names = ("jordan", "broken", "broken", "exact", "exact")
    found = Comparison((*rows,), (*map(judgement, names, (0.2, 0.2, None, 0.0, 0.004)),))
    assert found.seconds("interrupted") is None
    assert found.verdict == (
        "On this device, jordan is the fastest, about 3.0 times as fast as the SVD, with an "
        "error of 0.2; exact has an error of at most 0.004 at about 2.0 times the SVD's speed; "
        "broken is left out, because it is not finite for 1 of 2 matrices."
    )
    wrong = Comparison((*rows,), (judgement("svd", 1.0),))
    assert (
        "svd is left out, because it brings only 0% of the singular values near 1"
        in wrong.verdict
    )
    bound = Comparison((rows[1], replace(rows[0], ms=(1.0,), at_least=True)), ())
    assert "jordan is the fastest" in bound.verdict


def test_the_verdict_says_what_to_know_of_the_fastest():
    shape = {"count": 1, "m": 8, "n": 8, "dtype": "float32"}
    ms = {"a": (1.0, 1.0), "b": (1.04, 1.04), "svd": (2.0, 9.0)}
    times = tuple(Time(name, ms=of_it, **shape) for name, of_it in ms.items())
    reached = {("a", "up"): 0.9, ("a", "down"): 0.3, ("b", "up"): 1.0}
    judged = (
        Judgement(*k, 8, 8, "float32", 0.2, None, None, None, r) for k, r in reached.items()
    )
    said = Comparison(times, tuple(judged)).verdict
    assert "a and b are equally fast, 5.5 times as fast as the SVD" in said  # 2 and 9
    assert "with an error of 0.2 and 0.2" in said
    assert "a brings only 30% of the singular values near 1 in down" in said
    assert "the times of svd vary 4-fold, so compare again on a quiet machine" in said


def test_a_method_that_fails_leaves_the_others_their_rows():
    class Flat:
        def polar(self, x):
            return x[..., :1]

    found = compare("8x8", {"flat": Flat(), "jordan": METHODS["jordan"]})
    flat, jordan = found.times
    assert flat.ms == () and "return the same shapes" in flat.note and "none" in str(found)
    assert jordan.ms and [judgement.method for judgement in found.judgements] == ["jordan"]


def test_only_names_reach_the_process_of_a_targets_compiler():
    with pytest.raises(
        ValueError, match="with `target`, pass methods by name, such as 'jordan,svd'"
    ):
        compare("8x8", {"svd": METHODS["jordan"]}, target="v5e")


def test_an_extrapolation_goes_on_as_the_smaller_ones_grow(monkeypatch):
    def seconds(prepare, m, n):
        return 1e-6 * m**3, 1e-6 * m**3

    monkeypatch.setattr(_extrapolation, "_time", seconds)
    expected, source = _extrapolation.extrapolate(lambda m, n: None, 400, 400)
    assert expected == pytest.approx(1e-6 * 400**3)
    assert source == "estimated from 100×100 and 200×200"
    assert _extrapolation.extrapolate(lambda m, n: None, 200, 200) is None
    times = iter([(1e-3, 1.0), (2.0, 20.0)])  # the second was disturbed
    monkeypatch.setattr(_extrapolation, "_time", lambda *_: next(times))
    assert _extrapolation.extrapolate(lambda m, n: None, 8, 8) == (32.0, ANY)


def test_a_comparison_is_a_dict_a_file_and_a_picture(tmp_path):
    found = compare([(8, 16), "2×8x8"], ["jordan", "svd"])
    found.save(tmp_path / "found.json")
    loaded = Comparison.from_dict(json.loads((tmp_path / "found.json").read_text()))
    assert str(loaded) == str(found)
    time, error = found.plot().axes
    assert [label.get_text() for label in time.get_yticklabels()][-1] in ("svd", "jordan")
    assert "milliseconds for all 3 matrices" in time.get_xlabel()
    assert "error" in error.get_xlabel()


def test_a_picture_says_of_an_error_without_logarithm_that_it_is_0():
    found = compare("1x1", ["svd", "jordan"])
    assert found.judgements[0].error == 0
    assert "0" in [text.get_text() for text in found.plot().axes[1].texts]
