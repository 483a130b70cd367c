"""Knows how a fault is planted, and that its tests fail."""

import ast
import tomllib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

import pytest

from benchmarks.mutation import children, suite
from benchmarks.record import ROOT

FILES = ("polar", "plan", "stability", "range", "nonfinite", "transform")  # of numerics
LIMIT = 1200.0  # seconds for one fault's tests


class Fault(NamedTuple):
    """A text changed in a file.

    Attributes:
      what: In words.
      path: In the package.
      before: What stands there once.
      after: What stands there instead.
      tests: `file: test test …`, names without `test_` and as long as they need be.
    """

    what: str
    path: str
    before: str
    after: str
    tests: list[str]


FAULTS = [
    Fault(**fault)
    for fault in tomllib.loads(Path(__file__).with_name("planted.toml").read_text())["fault"]
]


def known_tests() -> dict[str, list[str]]:
    """The tests of each file of numerics, in their order."""
    trees = {name: ast.parse((ROOT / f"tests/test_{name}.py").read_text()) for name in FILES}
    return {
        name: [node.name for node in tree.body if getattr(node, "name", "")[:5] == "test_"]
        for name, tree in trees.items()
    }


def named_tests(fault: Fault, tests: Mapping[str, Sequence[str]]) -> list[str]:
    """The tests that a fault names, as pytest does, without their cases.

    Args:
      fault: With the beginnings of names, each that of one test.
      tests: Of each file.

    Raises:
      ValueError: If a name begins none, or several.
    """
    found = []
    for names in fault.tests:
        file, _, beginnings = names.partition(": ")
        for beginning in beginnings.split():
            fitting = [name for name in tests[file] if name.startswith(f"test_{beginning}")]
            if len(fitting) != 1:
                raise ValueError(f"{fault.what}: {file}: {beginning!r} begins {fitting}")
            found.append(f"tests/test_{file}.py::{fitting[0]}")
    return found


def faulty(fault: Fault) -> tuple[str, str]:
    """The file of a fault, and its text with the fault.

    Raises:
      ValueError: If what the fault changes does not stand there once.
    """
    path = f"{suite.PACKAGE}/{fault.path}"
    text = (ROOT / path).read_text()
    if (times := text.count(fault.before)) != 1:
        raise ValueError(f"{fault.what}: {fault.before!r} is {times} times in {path}")
    return path, text.replace(fault.before, fault.after)


def judge(fault: Fault, tests: Mapping[str, Sequence[str]]) -> dict[str, list[str]]:
    """The tests of a fault, those that fail under it and those that are blind to it."""
    named = named_tests(fault, tests)
    failed = children.call(LIMIT, run, named, *faulty(fault))
    return {
        "seen_by": [test for test in named if test in failed],
        "blind": [test for test in named if test not in failed],
    }


class Seen:
    """A pytest plugin: one failing case of a test is enough."""

    def __init__(self, tests: Sequence[str]):
        self.tests = tests
        self.failed: set[str] = set()

    def pytest_collection_modifyitems(self, items: list[pytest.Item]) -> None:
        items[:] = [item for item in items if _test(item.nodeid) in self.tests]

    def pytest_runtest_setup(self, item: pytest.Item) -> None:
        if _test(item.nodeid) in self.failed:
            pytest.skip("seen")

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        if report.failed:
            self.failed.add(_test(report.nodeid))


def run(tests: Sequence[str], path: str, source: str) -> set[str]:
    """In a process of its own: which of the tests fail with a file's other text."""
    seen, files = Seen(tests), dict.fromkeys(test.partition("::")[0] for test in tests)
    suite.run([*files], seen, path, source)
    return seen.failed


def _test(nodeid: str) -> str:
    return nodeid.partition("[")[0]
