"""Tables as plain text."""

from collections.abc import Sequence


def align(lines: Sequence[Sequence[str]]) -> str:
    """Write rows of cells as a table with aligned columns and dashes below the first row.

    >>> print(align([["name", "x"], ["a", "10"]]))
    name  x
    ----  --
    a     10
    """
    head, *others = lines
    widths = [max(map(len, column)) for column in zip(*lines)]
    return "\n".join(
        "  ".join(cell.ljust(width) for cell, width in zip(line, widths)).rstrip()
        for line in (head, ["-" * width for width in widths], *others)
    )
