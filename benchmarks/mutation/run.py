"""Knows a run: trace the tests, draw mutants, judge each, see that the tests were sound."""

import random
import re
from functools import partial

from benchmarks.mutation import children
from benchmarks.mutation.mutants import mutants
from benchmarks.mutation.score import summary
from benchmarks.mutation.selection import traces
from benchmarks.mutation.suite import PACKAGE
from benchmarks.mutation.verdicts import control, judge
from benchmarks.record import ROOT


def measure(only: str, count: int, files: list[str]) -> dict:
    """The score of some files of tests, on a sample of some mutants."""
    made, folder = traces(files), ROOT / PACKAGE
    paths = [p for p in sorted(folder.rglob("*.py")) if re.search(only.split(":")[0], str(p))]
    population = [
        mutant
        for path in paths
        for mutant in mutants(path)
        if re.search(only, f"{mutant.path}:{mutant.line}")
    ]
    random.Random(0).shuffle(population)
    drawn = population[: count or None]
    verdicts = children.each(partial(judge, made=made), drawn, "mutants")
    control(sorted({verdict.by for verdict in verdicts} & made.seconds.keys()))
    return summary(verdicts, population) | {"tests_that_fail_without": made.failed}
