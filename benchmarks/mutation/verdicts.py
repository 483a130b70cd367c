"""Knows what becomes of a mutant: the tests of its line run on it until one fails."""

import time
from dataclasses import dataclass

from pytest import ExitCode

from benchmarks.mutation import children, suite
from benchmarks.mutation.mutants import Mutant
from benchmarks.mutation.selection import Traces, digest
from benchmarks.record import ROOT
from benchmarks.store import remembered

KILLED, LATE, SURVIVED, UNCOVERED = OUTCOMES = ("killed", "timed out", "survived", "uncovered")


@dataclass(frozen=True)
class Verdict:
    """What became of a mutant, by which test, in how many seconds."""

    mutant: Mutant
    outcome: str
    by: str = ""
    seconds: float = 0.0

    @property
    def survived(self) -> bool:
        return self.outcome in (SURVIVED, UNCOVERED)


def judge(mutant: Mutant, made: Traces) -> Verdict:
    """Kept as long as the package and its tests stay."""
    tests = made.tests(mutant.path, mutant.line)
    if not tests:
        return Verdict(mutant, UNCOVERED)
    files = {test.partition("::")[0] for test in tests}
    key = {
        "mutant": f"{mutant.path}: {mutant.after}",
        "of": digest(files, mutant.source, *tests),
    }
    # Far above what the tests take alone: on a busy machine a slow mutant is no endless one.
    limit = 60.0 + 10.0 * sum(made.seconds[test] for test in tests)
    return Verdict(mutant, *remembered(key, lambda: _run(limit, mutant, tests)))


def control(tests: list[str]) -> None:
    """See that the tests which killed pass without a fault."""
    path = f"{suite.PACKAGE}/__init__.py"
    source = (ROOT / path).read_text()
    if tests and (failed := children.call(suite.LIMIT, suite.verdict, tests, path, source)[1]):
        raise RuntimeError(f"{failed} fails without a mutant, too")


def _run(limit: float, mutant: Mutant, tests: list[str]) -> tuple[str, str, float]:
    began = time.perf_counter()
    try:
        code, by = children.call(limit, suite.verdict, tests, mutant.path, mutant.source)
        outcome = SURVIVED if code in (ExitCode.OK, ExitCode.NO_TESTS_COLLECTED) else KILLED
        if outcome is KILLED and not by:
            raise RuntimeError(f"pytest ends with {code} on {mutant}, and no test failed")
    except (TimeoutError, ChildProcessError) as error:
        outcome, by = LATE if isinstance(error, TimeoutError) else KILLED, str(error)
    return outcome, by, round(time.perf_counter() - began, 2)
