"""The track compares optimizers fairly: one search, paired seeds, and tests that hold."""

import json
import statistics

import jax
import numpy as np
import pytest
from scipy import stats

from benchmarks.record import RESULTS
from benchmarks.track import claims, entry, gpt, inference, tables, tuning
from benchmarks.track.entry import Settings
from benchmarks.track.training import Job

MACHINES = sorted({path.parents[2].name for path in RESULTS.glob("*/track/*/*.json")})
START = Settings(rate=0.03)
SMALL = gpt.Size(width=8, layers=1, heads=1, context=4)


# Statistics


def normal(mean, deviation=0.01, count=16, seed=0):
    return np.random.default_rng(seed).normal(mean, deviation, count)


def test_95_of_100_intervals_contain_the_mean():
    found = [inference.estimate(normal(1.0, seed=seed)) for seed in range(400)]
    share = np.mean([abs(e.mean - 1.0) < e.half for e in found])
    assert abs(share - 0.95) < 3 * np.sqrt(0.95 * 0.05 / 400)


@pytest.mark.parametrize("compare", [inference.compare, inference.compare_unpaired])
def test_one_percent_of_comparisons_without_a_difference_are_significant(compare):
    ps = [compare(normal(2, seed=i), normal(2, seed=1000 + i)).p for i in range(500)]
    assert stats.kstest(ps, "uniform").pvalue > 1e-3
    assert sum(p < 0.01 for p in ps) <= 13  # the chance of more is 1e-3


def test_a_paired_test_sees_what_the_seeds_hide():
    seeds, noise = normal(2.0, 0.1), normal(0.0, 0.001, seed=1)
    better = seeds * 0.995 + noise
    assert (
        inference.compare(better, seeds).p < 1e-6 < inference.compare_unpaired(better, seeds).p
    )
    assert inference.compare(seeds, seeds).p == 1


def test_holm_multiplies_the_smallest_p_most():
    assert inference.correct({"a": 0.01, "b": 0.04, "c": 0.03}) == pytest.approx(
        {"a": 0.03, "b": 0.06, "c": 0.06}
    )


def test_equivalence_needs_the_whole_interval_inside_the_margin():
    reference = normal(2.0, 0.1)
    gaps = normal(0.005, 0.004, seed=2)
    assert inference.equivalence(reference + gaps, reference, 0.01) < 0.01
    assert inference.equivalence(reference + gaps, reference, 0.006) > 0.01
    assert inference.equivalence(reference + 3 * gaps, reference, 0.01) > 0.5
    noisy = reference + normal(0.0, 0.05, seed=3)  # no difference, and not shown to be none
    assert (
        inference.equivalence(noisy, reference, 0.01)
        > 0.01
        < inference.compare(noisy, reference).p
    )


def test_a_verdict_needs_a_difference_beyond_the_margin():
    reference = normal(2.0, 0.1)
    small, large, noise = (
        reference + normal(m, d) for m, d in ((0.01, 2e-3), (0.05, 2e-3), (0.03, 0.2))
    )
    assert tables.judge(1e-6, small, reference) == "equal"
    assert tables.judge(1e-6, large, reference) == "worse"
    assert tables.judge(1e-6, reference, large) == "better"
    assert tables.judge(0.4, noise, reference) == "not told apart"


def test_a_trend_has_a_direction():
    falling = [normal(mean, seed=i) for i, mean in enumerate((0.3, 0.2, 0.1))]
    assert inference.trend(falling) < 1e-4
    assert inference.trend(falling[::-1]) > 0.99


def test_the_step_at_the_target_is_between_two_evaluations():
    assert inference.steps_to(2.5, [4.0, 3.0, 2.0, 2.2], 10) == 25
    assert inference.steps_to(2.0, [2.0, 1.0], 10) == 10
    assert inference.steps_to(0.5, [2.0, 1.0], 10) == np.inf


# The search


def bowl(best):
    """Workers whose loss is the distance from the best settings, on logarithmic scales."""

    def run_all(jobs):
        gaps = [np.log(np.divide(job.settings, best)) for job in jobs]
        return [
            {"loss": [float((gap**2).sum())], "diverged": False, "cpu_s": 0} for gap in gaps
        ]

    return run_all


def test_the_search_finds_a_better_setting_and_every_entry_has_the_same():
    job, best = Job("gpt", "muon", START, 0, 400), Settings(0.04, 0.02, 0.1, 0.9)
    found, log = tuning.search(job, START, bowl(best), 20)
    assert bowl(best)([job._replace(settings=found)])[0]["loss"] < bowl(best)([job])[0]["loss"]
    cost = sum(len(rung["tried"]) * rung["steps"] / 400 for rung in log[:-1])
    cost += tuning.LAST.seeds * len(log[-1]["tried"])
    assert cost == tuning.jobs_of_search() == 15
    other = tuning.candidates(START._replace(rate=0.3), 16)
    near = [s._replace(rate=s.rate / 10) for s in other]
    np.testing.assert_allclose(near, tuning.candidates(START, 16), rtol=1e-3)


def test_settings_stay_in_their_reach_and_a_diverged_run_is_the_worst():
    for s in tuning.candidates(START, 16):
        assert 1 / 2.5 <= s.rate / START.rate <= 2.5
        assert 0.87 - 0.105 <= s.momentum <= 0.93

    def run_all(jobs):
        finite = [{"loss": [1.0], "diverged": job.settings.rate > START.rate} for job in jobs]
        return finite

    found, log = tuning.search(Job("gpt", "muon", START, 0, 400), START, run_all, 20)
    assert found.rate <= START.rate
    assert log[0]["tried"][-1][0] is None


# Entries


@pytest.mark.parametrize("name", entry.names())
def test_an_entry_is_short_and_its_settings_may_be_traced(name):
    assert len((entry.FOLDER / f"{name}.py").read_text().splitlines()) <= 30
    of, params = entry.find(name), gpt.init(SMALL, jax.random.key(0))

    def update(settings):
        tx = entry.optimizer(of, settings, 20)
        return tx.update(params, tx.init(params), params)[0]

    assert jax.eval_shape(update, of.start) == jax.eval_shape(lambda: params)


def test_entries_have_different_titles_and_an_unknown_one_is_named():
    titles = [entry.find(name).title for name in entry.names()]
    assert len(set(titles)) == len(titles)
    with pytest.raises(ValueError, match=r"entry 'sdg' does not exist; use one of .*sgd"):
        entry.find("sdg")


def test_the_rate_warms_up_and_falls_to_a_twentieth():
    rate = entry.schedule(2.0, 100)
    np.testing.assert_allclose([rate(step) for step in (0, 4, 99)], [0.4, 2.0, 0.1], rtol=1e-6)


# Results


@pytest.mark.parametrize("machine", MACHINES)
def test_results_have_every_seed_and_the_settings_of_their_search(machine):
    for path in (RESULTS / machine / "track").glob("*/*.json"):
        record = json.loads(path.read_text())
        assert len(record["losses"]) == 16, path
        last = record["search"][-1]["tried"]
        assert last[0][1:] == list(record["settings"].values()), path


@pytest.mark.parametrize("machine", MACHINES)
def test_other_seeds_are_no_finding_and_a_planted_gain_of_two_percent_is(machine):
    records = tables.load(machine, "gpt")
    again = tables.load(machine, "gpt/again")
    for name in ("muon", "svd"):
        first, second = tables.finals(records[name]), tables.finals(again[name])
        assert records[name]["settings"] == again[name]["settings"]
        assert inference.compare_unpaired(second, first).p > tables.LEVEL
        planted = [0.98 * loss for loss in second]
        assert inference.compare_unpaired(planted, first).p < tables.LEVEL
        within = inference.estimate([*first, *second])
        assert abs(within.mean - statistics.mean(first)) < inference.estimate(first).half


def test_results_of_other_data_are_not_compared(tmp_path, monkeypatch):
    monkeypatch.setattr(tables, "RESULTS", tmp_path)
    with pytest.raises(FileNotFoundError, match="python -m benchmarks track --task gpt"):
        tables.load("here", "gpt")
    for name in ("one", "two"):
        path = tmp_path / "here" / "track" / "gpt" / f"{name}.json"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps({"data": name, "steps": 400}))
    with pytest.raises(ValueError, match="different data"):
        tables.load("here", "gpt")


def test_every_entry_of_a_claim_exists():
    named = {*claims.FEW, *claims.BY_STEPS, *claims.BY_DEGREE, tables.REFERENCE}
    assert named <= set(entry.names())
