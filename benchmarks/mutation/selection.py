"""Knows which tests can see a line: those that execute it, the cheapest first."""

import ast
import hashlib
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from importlib.metadata import version
from itertools import chain
from pathlib import Path

from benchmarks.mutation import children, suite
from benchmarks.record import ROOT
from benchmarks.store import remembered

# They read sources or pages, start processes, or measure time: what they execute says little.
APART = ("benchmarks", "determinism", "docs", "faults", "layout", "mutation", "processes")
APART += ("safety", "scripts", "soak")
BUDGET = 45.0  # seconds of tests for one mutant


@dataclass
class Traces:
    """Seconds of tests that can judge, and who executes each line, "" where an import does."""

    seconds: dict[str, float] = field(default_factory=dict)
    failed: list[str] = field(default_factory=list)
    lines: dict[str, dict[int, set[str]]] = field(default_factory=dict)

    def add(self, found: dict) -> None:
        names = [*found["seconds"], ""]  # the last, by -1, is an import
        failed = set(found["failed"])  # without a fault: they judge nothing
        self.seconds |= {test: s for test, s in found["seconds"].items() if test not in failed}
        self.failed += found["failed"]
        for path, lines in found["lines"].items():
            mine = self.lines.setdefault(path, defaultdict(set))
            for line, numbers in lines.items():
                mine[int(line)].update(names[n] for n in numbers)

    def tests(self, path: str, line: int) -> list[str]:
        """Those for a fault in this line; none if nothing executes it."""
        executed = self.lines.get(path, {})
        for number, (start, end) in enumerate(_around(ROOT / path, line)):
            found = set().union(*(executed.get(n, ()) for n in range(start, end + 1)))
            if not found.isdisjoint(self.seconds):
                return list(self._affordable(found))
            if number and not found:  # the whole statement
                return []
        # A module of nothing but data: whoever uses its folder.
        folder = Path(path).parent
        near = (xs.values() for name, xs in self.lines.items() if Path(name).parent == folder)
        return list(self._affordable(set().union(*chain.from_iterable(near))))

    def _affordable(self, found: set[str]) -> Iterator[str]:
        """The cheapest of each function, then the next of each, while they are paid for."""
        turns, ranked, left = Counter(), [], BUDGET
        for seconds, test in sorted((self.seconds[x], x) for x in found & self.seconds.keys()):
            function = test.partition("[")[0]
            ranked.append((turns[function], seconds, test))
            turns[function] += 1
        for number, (_, seconds, test) in enumerate(sorted(ranked)):
            left -= seconds
            if left > 0 or number == 0:
                yield test


def _around(path: Path, line: int) -> list[tuple[int, int]]:
    """The line, then what has it from the inside out: what an import executes, others use."""
    text = path.read_text()
    around = [(line, line), (1, len(text.splitlines()))]
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.stmt):
            decorators = getattr(node, "decorator_list", [])
            first = min(x.lineno for x in (node, *decorators))
            if first <= line <= node.end_lineno:
                around.append((first, node.end_lineno))
    return sorted(around, key=lambda lines: lines[1] - lines[0])


def traces(files: Sequence[str]) -> Traces:
    """What tests execute, file by file: a file that is as it was is not traced again."""
    made = Traces()

    def trace(file: str) -> dict:
        key = {"trace": file, "of": digest([file])}
        return remembered(key, lambda: children.call(suite.LIMIT, suite.trace, file))

    for found in children.each(trace, files, "tests"):
        made.add(found)
    return made


def test_files() -> list[str]:
    """Those that take part, the longest first; a module's doctest is one."""
    apart = {f"test_{name}.py" for name in APART}
    tests = [path for path in (ROOT / "tests").glob("test_*.py") if path.name not in apart]
    documented = [p for p in (ROOT / suite.PACKAGE).rglob("*.py") if ">>>" in p.read_text()]
    longest = sorted(tests, key=lambda path: -path.stat().st_size)
    return [path.relative_to(ROOT).as_posix() for path in longest + sorted(documented)]


def digest(files: Iterable[str], *more: str) -> str:
    """What tests depend on: these files, what they share, the package, versions, and more."""
    shared = [path for path in (ROOT / "tests").glob("*.py") if "test_" not in path.name]
    paths = {*(ROOT / suite.PACKAGE).rglob("*.py"), *shared, *(ROOT / file for file in files)}
    parts = [f"{name} {version(name)}" for name in ("jax", "optax", "flax")] + [*more]
    parts += [f"{path.relative_to(ROOT)} {path.read_text()}" for path in sorted(paths)]
    return hashlib.sha256("\n".join(parts).encode()).hexdigest()
