"""Makes the tables of `catalogue` from its JSON."""

from collections import Counter
from collections.abc import Callable

from benchmarks.catalogue.judging import NOT_OFFERED, RIGHT, WRONG
from benchmarks.catalogue.libraries import LIBRARIES
from benchmarks.record import load
from benchmarks.text import written

_NAMES = [library.name for library in LIBRARIES]


def table(machine: str) -> str:
    """A row for each input, and what was seen where it went wrong."""
    record = load(machine, "catalogue")
    rows = [
        [number, row["input"], row["expected"], *(_cell(row[name]) for name in _NAMES)]
        for number, row in record["rows"].items()
    ]
    header = ["#", "input", "expected", *(f"`{name}`" for name in _NAMES)]
    return written(record, header, rows, left=len(header))


def count(machine: str) -> str:
    """How many inputs each library does right by."""
    record = load(machine, "catalogue")
    rows = []
    for name in _NAMES:
        outcomes = Counter(row[name]["outcome"] for row in record["rows"].values())
        rows.append([f"`{name}`", *(str(outcomes[o]) for o in (RIGHT, WRONG, NOT_OFFERED))])
    return written(record, ["library", RIGHT, WRONG, NOT_OFFERED], rows)


def _cell(judged: dict[str, str]) -> str:
    """The outcome; an observation as code, where nothing of it is taken for markup."""
    if judged["outcome"] != WRONG:
        return judged["outcome"]
    return f"{WRONG}: `{judged['observation'].replace('`', chr(39)).replace('|', '/')}`"


TABLES: dict[str, Callable[[str], str]] = {"catalogue": table, "catalogue_count": count}
