"""Makes the table of `mutation` from its JSON."""

from collections import Counter
from collections.abc import Callable

from benchmarks.record import load
from benchmarks.text import written

AREAS = ("polar", "dims", "sharding", "theory", "compat", "planning")
REST = "transform and the rest"


def table(machine: str) -> str:
    """Area by area, then all with the interval."""
    record = load(machine, "mutation")
    areas = {area: Counter() for area in (*AREAS, REST, "all")}
    for path, counts in record["files"].items():
        area = path.split("/")[1]
        for name in (area if area in AREAS else REST, "all"):
            areas[name].update(counts)
    rows = [[name, *_cells(counts)] for name, counts in areas.items()]
    low, high = record["interval"]
    rows[-1][-2] += f" ({low:.1%} to {high:.1%})" if high > low else ""
    header = ["", "mutants", "drawn", "killed", "survived", "of these equivalent", "score"]
    return written(record, [*header, "without equivalent"], rows)


def _cells(counts: Counter) -> list[str]:
    killed = counts["killed"] + counts["timed out"]
    survived = counts["survived"] + counts["uncovered"]
    drawn, equivalent = killed + survived, counts["equivalent"]
    numbers = [str(n) for n in (counts["mutants"], drawn, killed, survived, equivalent)]
    return numbers + [f"{killed / n:.1%}" if n else "" for n in (drawn, drawn - equivalent)]


TABLES: dict[str, Callable[[str], str]] = {"mutation": table}
