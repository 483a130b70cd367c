"""The catalogue of bad inputs: ours is right in every row, and what is wrong is seen."""

import json

import optax
import pytest

from benchmarks.catalogue import ROWS, tables
from benchmarks.catalogue.judging import judge
from benchmarks.catalogue.libraries import LIBRARIES, OURS, Library, NotOffered
from benchmarks.record import RESULTS


def test_every_number_is_there_once():
    assert [row.number for row in ROWS] == [*range(1, 63)]


@pytest.mark.parametrize("row", ROWS, ids=str)
def test_ours_is_right(row):
    row.check(OURS)


@pytest.mark.parametrize(
    "path", [*RESULTS.glob("*/catalogue.json")], ids=lambda path: path.parent.name
)
def test_what_is_kept_is_of_these_rows_and_this_package(path):
    kept = json.loads(path.read_text())["rows"]
    said = {number: (row["input"], row["expected"]) for number, row in kept.items()}
    assert said == {str(row.number): (row.input, row.expected) for row in ROWS}
    wrong = {int(n) for n, row in kept.items() if row[OURS.name]["outcome"] != "right"}
    assert not wrong, "run `python -m benchmarks catalogue`"


def test_a_library_is_judged_by_what_it_does():
    """Gradient descent bears zeros, orthogonalizes nothing, takes any rate."""

    def translate(options, alias):
        if options.pop("exact", False):
            raise NotOffered("no polar factor")
        return {}

    sgd = Library("sgd", optax.sgd, optax.identity, translate, ("propagate",), lambda p: None)
    seen = {row.number: judge(row, sgd) for row in ROWS if row.number in (1, 3, 8, 25, 38)}
    assert {number: judged["outcome"] for number, judged in seen.items()} == {
        1: "right",
        3: "not offered",
        8: "wrong",
        25: "wrong",
        38: "wrong",
    }
    assert seen[3]["observation"] == "no polar factor"
    assert "off by" in seen[8]["observation"] or "is 0" in seen[8]["observation"]
    assert seen[38]["observation"].startswith("accepted: -1.0")


def test_the_tables_count_and_quote(monkeypatch):
    odd = {"outcome": "wrong", "observation": "TypeError: <class 'int'> | `x`"}
    right, none = ({"outcome": o, "observation": ""} for o in ("right", "not offered"))
    ours, theirs = (library.name for library in LIBRARIES)
    text = {"input": "a", "expected": "b"}
    rows = {"1": {**text, ours: right, theirs: odd}, "2": {**text, ours: right, theirs: none}}
    monkeypatch.setattr(tables, "load", lambda *_: {"rows": rows, "provenance": MADE_BY})
    assert f"| `{ours}` | 2 | 0 | 0 |\n| `{theirs}` | 0 | 1 | 1 |" in tables.count("here")
    assert "| 1 | a | b | right | wrong: `TypeError: <class 'int'> / 'x'` |" in tables.table("")


MADE_BY = dict.fromkeys(("device", "processor", "cores", "python", "command", "commit", "date"))
