"""Faults are planted one at a time, and judged by the tests that execute their line."""

import os
import re
import time
from collections import Counter
from unittest import mock

import pytest

from benchmarks.mutation import children, mutants, score, selection, suite, tables
from benchmarks.mutation.mutants import Mutant
from benchmarks.mutation.selection import Traces
from benchmarks.mutation.verdicts import Verdict
from benchmarks.record import ROOT, provenance

SOURCE = '''"""One plus 1."""

from __future__ import annotations

SIDES = 2


def half(x: int | None = 0) -> float | None:
    """Not 2 * x."""
    if x:
        return x / SIDES
    return None
'''


@pytest.fixture
def module(tmp_path, monkeypatch):
    monkeypatch.setattr(mutants, "ROOT", tmp_path)
    monkeypatch.setattr(selection, "ROOT", tmp_path)
    path = tmp_path / "half.py"
    path.write_text(SOURCE)
    return path


def test_each_construct_has_one_fault_and_docstrings_and_annotations_none(module):
    found = [(m.line, m.before, "".join(m.after.split())) for m in mutants.mutants(module)]
    signature = "def half(x: int | None = 0) -> float | None:"
    assert sorted(found) == [
        (5, "SIDES = 2", "SIDES=3"),
        (8, signature, "defhalf(x:int|None=1)->float|None:"),
        (10, "if x:", "ifnotx:"),
        (11, "return x / SIDES", "returnx*SIDES"),
    ]


def test_what_is_no_python_or_the_same_program_is_no_mutant(module):
    module.write_text("def f(xs):\n    if x := xs:\n        return x\n")
    for mutant in mutants.mutants(module):
        compile(mutant.source, "mutant", "exec")
    module.write_text("x: tuple[int, 2]\n")
    assert not [*mutants.mutants(module)]


def traced(lines, seconds):
    return Traces(seconds, [], {"half.py": lines})


def test_a_line_is_judged_by_those_who_execute_it_and_pass_without_a_fault(module):
    made = Traces()
    lines = {"11": [0, 1, 2], "10": [0, 1, 2, 3], "1": [-1]}
    seconds = dict.fromkeys("abcd", 1.0)
    made.add({"seconds": seconds, "failed": ["b"], "lines": {"half.py": lines}})
    assert made.failed == ["b"]
    assert made.tests("half.py", 11) == ["a", "c"]
    assert made.tests("half.py", 12) == []
    assert made.lines["half.py"][1] == {""}


@pytest.mark.parametrize(("line", "expected"), [(5, ["elsewhere", "half"]), (8, ["half"])])
def test_what_an_import_executes_is_judged_by_those_who_use_what_has_it(module, line, expected):
    module.write_text(SOURCE + "\n\ndef one():\n    return 1\n")
    lines = {5: {""}, 8: {""}, 10: {"half"}, 16: {"elsewhere"}}
    made = traced(lines, {"half": 2.0, "elsewhere": 1.0})
    assert made.tests("half.py", line) == expected


def test_a_module_of_data_is_judged_by_those_who_use_its_folder(module):
    module.with_name("data.py").write_text("SIDES = 2\n")
    lines = {"data.py": {1: {""}}, "half.py": {10: {"near"}}, "other/far.py": {1: {"far"}}}
    made = Traces({"near": 1.0, "far": 1.0}, [], lines)
    assert made.tests("data.py", 1) == ["near"]


def test_the_cheapest_of_each_function_come_first_until_the_budget_is_spent(module):
    seconds = {"a[1]": 3.0, "a[2]": 2.0, "b": 4.0, "a[3]": 30.0, "c": 20.0}
    made = traced({11: set(seconds)}, seconds)
    assert made.tests("half.py", 11) == ["a[2]", "b", "c", "a[1]"]
    dear = traced({11: {"dear"}}, {"dear": 1000.0})
    assert dear.tests("half.py", 11) == ["dear"]


@pytest.fixture
def call():
    with mock.patch.dict(os.environ):
        children.prepare()
        yield children.call


@pytest.mark.slow
def test_a_child_answers_raises_dies_or_is_late(call):
    assert call(60.0, max, 1, 2) == 2
    with pytest.raises(ValueError, match="invalid literal"):
        call(60.0, int, "x")
    with pytest.raises(ChildProcessError):
        call(60.0, os.abort)
    with pytest.raises(TimeoutError):
        call(0.5, time.sleep, 60)


@pytest.mark.slow
def test_a_test_fails_on_a_fault_and_passes_without(call):
    path, test = (
        "muon_optax/scaling.py",
        "tests/test_scaling.py::test_an_empty_matrix_has_factor_one",
    )
    doctest = "muon_optax/scaling.py::muon_optax.scaling.shape_factor"
    tests, source = (
        [f"{test}[rms_to_rms]", f"{test}[jordan]", doctest],
        (ROOT / path).read_text(),
    )
    assert call(120.0, suite.verdict, tests, path, source) == (0, "")
    faulty = source.replace("fan_in and fan_out else", "fan_in or fan_out else")
    assert call(120.0, suite.verdict, tests, path, faulty) == (1, tests[0])  # by our order
    wrong = source.replace("max(1.0, fan_out", "max(1.1, fan_out")
    assert call(120.0, suite.verdict, tests, path, wrong) == (1, doctest)
    unreadable = source.replace("SHAPE_SCALINGS:", "SHAPES:")
    assert call(120.0, suite.verdict, tests, path, unreadable)[0] == 1
    with pytest.raises(RuntimeError, match=r"no test imported muon_optax/none.py"):
        call(120.0, suite.verdict, tests, "muon_optax/none.py", source)


@pytest.mark.slow
def test_a_trace_says_who_executes_what(call):
    found = call(120.0, suite.trace, "tests/test_scaling.py")
    source = (ROOT / "muon_optax/scaling.py").read_text().splitlines()
    line = 1 + next(n for n, text in enumerate(source) if "raise ValueError" in text)
    names, lines = [*found["seconds"]], found["lines"]["muon_optax/scaling.py"]
    assert [names[n] for n in lines[line] if n >= 0] == [
        "tests/test_scaling.py::test_an_unknown_rule_is_an_error_that_lists_the_known"
    ]
    assert lines[3] == [-1]  # an import
    assert not found["failed"]


# Wilson's intervals of 8 and 10 in 10, as in any table of them.
@pytest.mark.parametrize(("killed", "low", "high"), [(8, 0.4902, 0.9433), (10, 0.7225, 1.0)])
def test_the_interval_is_wilsons_and_shrinks_to_the_score(killed, low, high):
    found = score.interval(killed, 10, 10**9)
    assert found == pytest.approx((low, high), abs=1e-4)
    assert score.interval(killed, 10, 10) == (killed / 10, killed / 10)
    less = score.interval(killed, 10, 20)
    assert found[0] < less[0] < less[1] <= found[1] + 1e-9


def verdict(path, after, outcome):
    return Verdict(Mutant(f"muon_optax/{path}", 1, "AddNot", "if x:", after, ""), outcome)


def test_a_score_counts_what_time_ends_and_excuses_what_is_known(monkeypatch):
    known = {
        ("muon_optax/a.py", "if x:", "if y:"): "the same",
        ("muon_optax/a.py", "if x:", "if z:"): "thought to be the same",
    }
    monkeypatch.setattr(score, "EQUIVALENT", known)
    outcomes = [("if y:", "survived"), ("if z:", "killed"), ("", "uncovered")]
    outcomes += [("", "timed out")] * 2
    verdicts = [verdict("a.py", *outcome) for outcome in outcomes]
    found = score.summary(verdicts, [v.mutant for v in verdicts])
    assert (found["score"], found["score_without_equivalent"]) == (3 / 5, 3 / 4)
    assert [s.get("reason") for s in found["survivors"]] == ["the same", None]
    assert [s["after"] for s in found["equivalent_but_killed"]] == ["if z:"]
    assert Counter(found["files"]["muon_optax/a.py"]) == Counter(
        mutants=5, killed=1, survived=1, uncovered=1, equivalent=1, **{"timed out": 2}
    )


def test_a_table_has_every_file_in_one_area(monkeypatch):
    outcomes = [("polar/plan.py", "killed"), ("polar/gram.py", "timed out")]
    outcomes += [("alias.py", "killed"), ("alias.py", "survived"), ("record.py", "killed")]
    verdicts = [verdict(path, "", outcome) for path, outcome in outcomes]
    found = score.summary(verdicts, [v.mutant for v in verdicts] * 2)
    record = {"provenance": provenance()} | found
    monkeypatch.setattr(tables, "load", lambda machine, name: record)
    lines = tables.table("here").splitlines()
    assert "| polar | 4 | 2 | 2 | 0 | 0 | 100.0% | 100.0% |" in lines
    assert "| transform and the rest | 6 | 3 | 2 | 1 | 0 | 66.7% | 66.7% |" in lines
    (everything,) = [x for x in lines if x.startswith("| all | 10 | 5 | 4 | 1 | 0 | 80.0% (")]
    low, high = map(float, re.findall(r"([\d.]+)%", everything)[1:3])
    assert low < 80.0 < high


@pytest.mark.slow
def test_every_known_equivalent_is_a_mutant():
    paths = {path for path, *_ in score.EQUIVALENT}
    found = {(m.path, m.before, m.after) for p in paths for m in mutants.mutants(ROOT / p)}
    assert set(score.EQUIVALENT) <= found
