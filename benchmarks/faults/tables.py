"""Makes the table of `faults` from its JSON."""

from collections.abc import Callable

from benchmarks.record import load
from benchmarks.text import written


def table(machine: str) -> str:
    """Fault by fault, how many tests fail, and one of them; then how many have been seen to."""
    record = load(machine, "faults")
    rows = [
        [
            fault["what"],
            f"`{fault['path']}`",
            str(len(fault["seen_by"])),
            f"`{fault['seen_by'][0].partition('::')[2]}`",
        ]
        for fault in record["faults"]
    ]
    seen = {test for fault in record["faults"] for test in fault["seen_by"]}
    rows.append(["all", "", f"{len(seen)} of {record['tests']}", ""])
    return written(record, ["fault", "in", "tests that fail", "the first"], rows, left=2)


TABLES: dict[str, Callable[[str], str]] = {"faults": table}
