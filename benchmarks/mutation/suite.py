"""Knows how tests run in this process: those chosen, on a mutant; or a file's, traced."""

import sys
import time
from collections.abc import Iterator, Sequence
from importlib.machinery import SourceFileLoader
from importlib.util import spec_from_file_location
from pathlib import Path
from types import CodeType
from typing import Any

import coverage
import jax
import pytest
from hypothesis import settings
from pytest import ExitCode

from benchmarks.record import ROOT

PACKAGE = "muon_optax"
LIMIT = 3600.0  # seconds for many tests, on a machine that does other things too
# Plain asserts: to rewrite them pytest would import what is asked for by its path itself.
OPTIONS = ["-q", "--rootdir", str(ROOT), "--assert", "plain"]
OPTIONS += [
    part for plugin in ("cacheprovider", "xdist", "cov") for part in ("-p", f"no:{plugin}")
]


class Chosen:
    """A pytest plugin: runs the tests named, in their order; says which failed first."""

    def __init__(self, tests: Sequence[str]):
        self.order = {test: n for n, test in enumerate(tests)}
        self.failed = ""

    def pytest_collection_modifyitems(self, items: list[pytest.Item]) -> None:
        found = [item for item in items if item.nodeid in self.order]
        items[:] = sorted(found, key=lambda item: self.order[item.nodeid])

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        self.failed = self.failed or (report.nodeid if report.failed else "")

    def pytest_collectreport(self, report: pytest.CollectReport) -> None:
        self.failed = self.failed or (report.nodeid if report.failed else "")


class Traced:
    """A pytest plugin: a test's seconds of CPU, whether it fails, the lines it executes."""

    def __init__(self, tracer: coverage.Coverage):
        self.tracer = tracer
        self.seconds: dict[str, float] = {}
        self.failed: list[str] = []
        self.function = ""

    @pytest.hookimpl(hookwrapper=True)
    def pytest_runtest_protocol(self, item: pytest.Item) -> Iterator[None]:
        if self.function != (function := item.nodeid.partition("[")[0]):
            _forget()
            self.function = function
        self.tracer.switch_context(item.nodeid)
        began = time.process_time()
        yield
        self.seconds[item.nodeid] = time.process_time() - began

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        if report.failed and report.nodeid not in self.failed:
            self.failed.append(report.nodeid)


def _forget() -> None:
    """What a test has traced or planned, the next would not execute again."""
    jax.clear_caches()
    for name in [name for name in sys.modules if name.split(".")[0] == PACKAGE]:
        for value in vars(sys.modules[name]).values():
            getattr(value, "cache_clear", int)()


class Mutated(SourceFileLoader):
    """The finder of one module, and its loader: a file's name, another source."""

    def __init__(self, path: str, source: str):
        module = ".".join(Path(path).with_suffix("").parts).removesuffix(".__init__")
        super().__init__(module, str(ROOT / path))
        self.source = source
        self.imported = False

    def find_spec(self, name: str, path: object = None, target: object = None):
        return (
            spec_from_file_location(name, self.path, loader=self) if name == self.name else None
        )

    def get_code(self, fullname: str) -> CodeType:
        self.imported = True
        return compile(self.source, self.path, "exec")


def verdict(tests: Sequence[str], path: str, source: str) -> tuple[int, str]:
    """The exit code of pytest on a mutant of a file, and the first test that failed."""
    chosen = Chosen(tests)
    files = dict.fromkeys(test.partition("::")[0] for test in tests)
    return run(["--exitfirst", *files], chosen, path, source), chosen.failed


def run(arguments: list[str], plugin: object, path: str, source: str) -> int:
    """The exit code of pytest where a file of the package has another text."""
    mutated = Mutated(path, source)
    sys.meta_path.insert(0, mutated)
    code = _pytest(arguments, plugin)
    if not mutated.imported:
        raise RuntimeError(f"no test imported {path}")
    return code


def trace(file: str) -> dict[str, Any]:
    """Of each of a file's tests the seconds, by its number those that fail or execute a line.

    A line that is executed when its module is imported has the number -1.
    """
    tracer = coverage.Coverage(data_file=None, source=[str(ROOT / PACKAGE)], config_file=False)
    tracer.start()
    code = _pytest([file], plugin := Traced(tracer))
    tracer.stop()
    if code not in (ExitCode.OK, ExitCode.TESTS_FAILED, ExitCode.NO_TESTS_COLLECTED):
        raise RuntimeError(f"pytest ends with {code} on {file}")
    numbers, data = (
        {test: n for n, test in enumerate(plugin.seconds)} | {"": -1},
        tracer.get_data(),
    )
    return {
        "seconds": plugin.seconds,
        "failed": plugin.failed,
        "lines": {
            Path(path).relative_to(ROOT).as_posix(): {
                line: sorted(numbers[test] for test in tests)
                for line, tests in data.contexts_by_lineno(path).items()
            }
            for path in sorted(data.measured_files())
        },
    }


def _pytest(arguments: list[str], plugin: object) -> int:
    assert PACKAGE not in sys.modules, "a mutant would not be imported"
    # The same examples each time: a verdict that can be had again.
    settings.register_profile("again", derandomize=True)
    settings.load_profile("again")
    return int(pytest.main([*OPTIONS, *arguments], plugins=[plugin]))
