"""The track compares optimizers fairly: one search, paired seeds, and tests that hold."""

import json

import jax
import numpy as np
import pytest
from rich.progress import Progress
from scipy import stats

from benchmarks import checks, store, track
from benchmarks.track import advice, claims, entry, figures, inference, tables, tuning, workers
from benchmarks.track.entry import Settings
from benchmarks.track.training import Job

START = Settings(rate=0.03)
SMALL = {"up": {"kernel": np.ones((2, 3), np.float32), "bias": np.ones(3, np.float32)}}


# Statistics


def normal(mean, deviation=0.01, count=16, seed=0):
    return np.random.default_rng(seed).normal(mean, deviation, count)


def test_95_of_100_intervals_contain_the_mean():
    found = [inference.estimate(normal(1.0, seed=seed)) for seed in range(400)]
    share = np.mean([abs(e.mean - 1.0) < e.half for e in found])
    assert abs(share - 0.95) < 3 * np.sqrt(0.95 * 0.05 / 400)


@pytest.mark.parametrize("compare", [inference.compare, inference.compare_unpaired])
def test_one_percent_of_comparisons_without_a_difference_are_significant(compare):
    ps = [compare(normal(2, seed=i), normal(2, seed=1000 + i)).p for i in range(200)]
    assert stats.kstest(ps, "uniform").pvalue > 1e-3
    assert sum(p < 0.01 for p in ps) <= 7  # the chance of more is 1e-3


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


def verdicts(**gaps):
    """Of entries that differ from the reference by these gaps, seed by seed."""
    reference = normal(2.0, 0.1)
    losses = {tables.REFERENCE: reference} | {n: reference + gap for n, gap in gaps.items()}
    records = {
        name: {"losses": [[x] for x in of], "steps": 1, "eval_every": 1}
        for name, of in losses.items()
    }
    return {name: found.verdict for name, found in tables.compare_all(records).items()}


def test_a_verdict_needs_a_difference_beyond_the_margin():
    small, large, noise = (normal(m, d) for m, d in ((0.01, 2e-3), (0.05, 2e-3), (0.03, 0.2)))
    assert verdicts(small=small, large=large, lower=-large, noise=noise) == {
        "small": "equal",
        "large": "worse",
        "lower": "better",
        "noise": "undecided",
    }


def test_what_is_better_than_one_muon_and_not_than_the_other_is_undecided():
    gap, noise = normal(-0.05, 2e-3), normal(0.0, 2e-3, seed=1)
    assert verdicts(variant=gap) == {"variant": "better"}
    for second in (gap + noise, gap - 0.05):
        found = verdicts(variant=gap, **{tables.SECOND: second})
        assert found == {"variant": "undecided", tables.SECOND: "better"}
    assert verdicts(variant=gap, **{tables.SECOND: noise})["variant"] == "better"


def test_both_verdicts_are_corrected_for_the_number_of_entries():
    unit = stats.zscore(normal(0.0), ddof=1)
    near, far = 0.022 * unit, 0.05 + 0.054 * unit  # p = .0015 and .002
    assert verdicts(near=near) == {"near": "equal"}
    assert verdicts(far=far) == {"far": "worse"}
    many = {f"noise {i}": normal(0.05, 0.2, seed=i) for i in range(9)}
    found = verdicts(near=near, far=far, **many)
    assert found["near"] == found["far"] == "undecided"


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
    of = entry.find(name)

    def update(settings):
        tx = entry.optimizer(of, settings, 20)
        return tx.update(SMALL, tx.init(SMALL), SMALL)[0]

    assert jax.eval_shape(update, of.start) == jax.eval_shape(lambda: SMALL)


def test_entries_have_different_titles():
    titles = [entry.find(name).title for name in entry.names()]
    assert len(set(titles)) == len(titles)


def test_a_run_of_other_code_is_not_remembered(tmp_path, monkeypatch):
    first = entry.version("muon")
    assert entry.version("svd") != first

    def again():
        entry.version.cache_clear()
        return entry.version("muon")

    assert again() == first
    package = tmp_path / "__init__.py"
    package.write_text("changed")
    monkeypatch.setattr(entry.muon_optax, "__file__", str(package))
    assert again() != first
    monkeypatch.undo()
    monkeypatch.setattr(entry, "CODE", entry.CODE[1:])
    assert again() != first
    entry.version.cache_clear()


def test_the_rate_warms_up_and_falls_to_a_twentieth():
    rate = entry.schedule(2.0, 100)
    np.testing.assert_allclose([rate(step) for step in (0, 4, 99)], [0.4, 2.0, 0.1], rtol=1e-6)


# Results


def keep(folder, name, losses, **other):
    """A result file of the track."""
    provenance = dict.fromkeys(("device", "processor", "cores", "python", "command"), "")
    provenance |= {"date": "", "commit": "", "commits": [], "jax": "0"}
    record = {"provenance": provenance, "task": "GPT", "data": "1", "steps": 2}
    record |= {"eval_every": 1, "target": 2.5, "losses": losses, "cpu_s": 1.0}
    record |= {"settings": START._asdict(), "step_s": {"it": [1.0], "muon": [1.0]}} | other
    record["search"] = [{"tried": [[2.0, *record["settings"].values()]]}]
    folder.mkdir(parents=True, exist_ok=True)
    (folder / f"{name}.json").write_text(json.dumps(record))


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """Of the results of the GPT, on a machine called here."""
    monkeypatch.setattr(tables, "RESULTS", tmp_path)
    monkeypatch.setattr(checks, "RESULTS", tmp_path)
    monkeypatch.setattr(checks, "ROOT", tmp_path)
    return tmp_path / "here" / "track" / "gpt"


def curves(*losses):
    return [[3.0, float(loss)] for loss in losses]


def test_an_entry_that_diverges_with_one_seed_is_last_and_changes_no_other_row(folder):
    keep(folder, "muon", curves(*normal(2.0)))
    keep(folder, "adamw", curves(*normal(2.1, seed=1)))
    before = tables.table("here", "gpt").splitlines()
    keep(folder, "sgd", [[3.0], *curves(*normal(1.0))[1:]])
    after = tables.table("here", "gpt").splitlines()
    assert after[4] == "| SGD, momentum | – |  |  |  |  | diverges | 1 | 15 of 16 seeds |  |"
    p = tables.compare_all(tables.load("here", "gpt"))["adamw"].differs
    assert before[2] == after[2] and "worse" in before[3] and "worse" in after[3] and p < 1e-9
    figures.draw(folder)
    assert "SGD" not in (folder / "losses.svg").read_text()


def test_a_check_sees_a_lost_seed_other_settings_and_another_loss(folder):
    keep(folder, "muon", curves(*normal(2.0)))
    keep(folder / "again", "muon", curves(*normal(2.0, seed=1)))
    checks.check_results()
    wrong = {
        "not 16 seeds": lambda: keep(folder, "svd", curves(*normal(2.0)[1:])),
        "settings differ": lambda: keep(
            folder / "again", "muon", curves(*normal(2.0)), settings={}
        ),
        "the same seeds": lambda: keep(folder / "again", "muon", curves(*normal(2.0))),
        "other losses": lambda: keep(folder / "again", "muon", curves(*normal(2.1))),
        "a gain of 2 % is not seen": lambda: keep(
            folder / "again", "muon", curves(*normal(2.0, 1.0))
        ),
    }
    for message, plant in wrong.items():
        plant()
        with pytest.raises(checks.Unbelievable, match=message):
            checks.check_results()
        (folder / "svd.json").unlink(missing_ok=True)


def test_results_of_other_data_are_not_compared_and_missing_ones_are_named(folder):
    command = "python -m benchmarks track --task gpt --entry {}`$"
    with pytest.raises(FileNotFoundError, match=command.format("muon")):
        tables.load("here", "gpt")
    with pytest.raises(FileNotFoundError, match=command.format("muon --again")):
        tables.load("here", "gpt", again=True)
    for name in ("muon", "other"):
        keep(folder, name, [], data=name)
    with pytest.raises(FileNotFoundError, match=command.format("svd")):
        tables.load("here", "gpt", ("svd", "muon"))
    with pytest.raises(ValueError, match="different data"):
        tables.load("here", "gpt")


MISTAKES = {
    "entry 'sdg' does not exist; use one of": {"tasks": ["gpt"], "entries": ["muon", "sdg"]},
    "task 'gtp' does not exist; use one of gpt, ": {"tasks": ["gpt", "gtp"]},
    "has no results of muon yet; run": {"tasks": ["gpt"], "entries": ["muon"], "again": True},
    "--grid runs Muon on gpt; use it without --task": {"tasks": ["images"], "grid": True},
}


@pytest.mark.parametrize("message", MISTAKES)
def test_a_mistake_is_found_before_anything_is_trained(message, folder, monkeypatch):
    monkeypatch.setattr(track, "open_workers", None)
    with pytest.raises((FileNotFoundError, ValueError), match=message):
        track.main(**MISTAKES[message])


def test_a_result_names_the_commits_of_its_own_runs(monkeypatch):
    def remember(job):
        store.COMMITS.add(job.entry)
        return {"cpu_s": 1.0}

    monkeypatch.setattr(workers, "train", remember)
    with Progress() as bar:
        ours, job = workers.Workers(None, bar, 1.0), Job("gpt", "muon", START, 0, 1)
        for name in ("muon", "svd"):
            ours.begin_count()
            ours.run_all(2 * [job._replace(entry=name)])
            assert (ours.commits, ours.cpu_s) == ({name}, 2.0)


def test_every_entry_of_a_claim_exists():
    named = {*claims.FEW, *claims.BY_STEPS, *claims.BY_DEGREE, tables.REFERENCE, tables.SECOND}
    named |= {name for *_, alternatives in advice.ADVICE for name in alternatives.values()}
    assert named <= set(entry.names())
