"""The faults that are planted by hand: where they go, and that each test has one."""

import ast
import json

import pytest

from benchmarks.faults.planting import FAULTS, faulty, known_tests, named_tests
from benchmarks.record import RESULTS


@pytest.mark.parametrize("fault", FAULTS, ids=lambda fault: fault.what)
def test_a_fault_has_its_place_and_leaves_a_program(fault):
    path, text = faulty(fault)
    assert path.startswith("muon_optax/") and ast.parse(text)


def test_every_test_of_numerics_has_a_fault_that_it_sees():
    tests = known_tests()
    seen = {name for fault in FAULTS for name in named_tests(fault, tests)}
    everything = {f"tests/test_{file}.py::{name}" for file in tests for name in tests[file]}
    assert seen == everything
    assert len(everything) > 80


@pytest.mark.parametrize(
    "path", [*RESULTS.glob("*/faults.json")], ids=lambda path: path.parent.name
)
def test_what_is_kept_is_of_these_faults(path):
    kept = [fault["what"] for fault in json.loads(path.read_text())["faults"]]
    assert kept == [fault.what for fault in FAULTS], "run `python -m benchmarks faults`"


def test_a_fault_that_has_no_place_is_an_error():
    with pytest.raises(ValueError, match=r"is 0 times in muon_optax/transform\.py"):
        faulty(FAULTS[0]._replace(path="transform.py"))
    with pytest.raises(ValueError, match=r"'a_' begins \['test_a_"):
        named_tests(FAULTS[0]._replace(tests=("polar: a_",)), known_tests())
