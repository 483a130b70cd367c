"""Hard and bad inputs: 62 checks that run on this library and on `optax.contrib`'s Muon.

Each check states what an optimizer should do with one input. Both libraries may use their own
names for arguments and their own documented ways. An error may have any wording if it names the
leaf or the argument, and an option that a library does not offer is not counted as wrong.
"""

from typing import Any

from tests.quality.catalogue import arguments, leaves, systems, values
from tests.quality.catalogue.checks import Row, judge
from tests.quality.catalogue.libraries import LIBRARIES

ROWS = sorted(
    row
    for module in (values, leaves, arguments, systems)
    for row in vars(module).values()
    if isinstance(row, Row)
)


def outcomes() -> dict[str, dict[str, Any]]:
    """For each row by number: the input, what is expected, and what each library does."""
    return {
        str(row.number): {"input": row.input, "expected": row.expected}
        | {library.name: judge(row, library) for library in LIBRARIES}
        for row in ROWS
    }
