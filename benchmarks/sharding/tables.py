"""The table of `sharding`, from its JSON."""

from collections.abc import Callable

from benchmarks.record import load
from benchmarks.text import short, written


def table(machine: str) -> str:
    """Ours and Optax's, layout by layout."""
    record, rows = load(machine, "sharding"), []
    for layout, optimizers in record["layouts"].items():
        for number, (name, found) in enumerate(optimizers.items()):
            kinds = ", ".join(f"{n} {kind}" for kind, n in sorted(found["collectives"].items()))
            formula = found.get("by_formula")
            each = formula["flops"] if formula else found["flops"]
            rows.append(
                [
                    "" if number else layout,
                    f"`{name}`",
                    kinds or "none",
                    short(found["received"] / 1e6),
                    short(formula["received"] / 1e6) if formula else "",
                    short(each / 1e9),
                    f"{8 * each / found['flops_alone']:.2f}",
                    f"{found['off']:.0e}",
                ]
            )
    header = ["layout", "optimizer", "collectives", "MB received", "by formula"]
    header += ["GFLOP", "times the ideal eighth", "difference"]
    return written(record, header, rows)


TABLES: dict[str, Callable[[str], str]] = {"sharding": table}
