"""The table of `scaling`, from its JSON."""

from collections.abc import Callable

from benchmarks.record import load
from benchmarks.scaling.machines import MACHINES
from benchmarks.sharding.layouts import OPTAX, OURS
from benchmarks.text import short, written


def _cells(found: dict) -> list[str]:
    """What a scheme moves and computes, and how long that takes on each machine."""
    kinds = ", ".join(f"{n} {kind}" for kind, n in sorted(found["collectives"].items()))
    by_hlo = short(found["by_hlo"]["received"] / 1e9) if "by_hlo" in found else ""
    cells = [kinds or "none", short(found["received"] / 1e9), by_hlo]
    cells.append(short(found["flops"] / 1e12))
    for took in found["seconds"].values():
        ms = [1e3 * took["computing"], 1e3 * took["moving"]]
        cells += [f"{' + '.join(map(short, ms))} = {short(sum(ms))}", short(max(ms))]
    return cells


def table(machine: str) -> str:
    """Every scheme of every case, the case named once."""
    record = load(machine, "scaling")
    header = ["model, mesh", "scheme", "collectives", "GB received", "by HLO"]
    header.append("TFLOP of the busiest device")
    for name in MACHINES:
        header += [f"{name}: computing + moving, ms", "hidden"]
    rows = [
        ["" if number else case, f"`{x}`" if x in (OURS, OPTAX) else x, *_cells(found)]
        for case, schemes in record["cases"].items()
        for number, (x, found) in enumerate(schemes.items())
    ]
    return written(record, header, rows)


TABLES: dict[str, Callable[[str], str]] = {"scaling": table}
