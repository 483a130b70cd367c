"""Bad and hard inputs, one by one: what two Muons make of each, beside what is expected.

Ours and `optax.contrib`'s, whose arguments, names and documented ways are as good as ours: an
error may be worded as it likes, if it names the leaf or the argument, and an option that a
library lacks is not held against it.
"""

from typing import Any

from rich.progress import track

from benchmarks.catalogue import arguments, leaves, systems, values
from benchmarks.catalogue.judging import Row, judge
from benchmarks.catalogue.libraries import LIBRARIES
from benchmarks.record import provenance, save
from benchmarks.sharding import host_devices

ROWS = sorted(
    row
    for module in (values, leaves, arguments, systems)
    for row in vars(module).values()
    if isinstance(row, Row)
)
SMOKE = (1, 8, 41)


def outcomes(row: Row) -> dict[str, Any]:
    """What the libraries make of a row."""
    judged = {library.name: judge(row, library) for library in LIBRARIES}
    return {"input": row.input, "expected": row.expected, **judged}


def main(smoke: bool = False) -> None:
    """Judge every row and keep the outcomes."""
    host_devices(8)
    made_by = provenance()
    if smoke:
        print(*(outcomes(row) for row in ROWS if row.number in SMOKE), sep="\n")
        return
    rows = {str(row.number): outcomes(row) for row in track(ROWS, "catalogue")}
    save("catalogue", made_by, {"rows": rows})
