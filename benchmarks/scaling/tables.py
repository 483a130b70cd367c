"""The tables of `scaling`, from their JSON."""

from collections.abc import Callable
from typing import Any

from benchmarks.record import load
from benchmarks.scaling.machines import MACHINES
from benchmarks.sharding.layouts import OPTAX, OURS
from benchmarks.text import made_by, markdown, short, written


def _cells(found: dict) -> list[str]:
    """What a scheme moves and computes, and how long that takes on each machine."""
    kinds = ", ".join(f"{n} {kind}" for kind, n in sorted(found["collectives"].items()))
    by_hlo = short(found["by_hlo"]["received"] / 1e9) if "by_hlo" in found else ""
    cells = [kinds or "none", short(found["received"] / 1e9), by_hlo]
    cells.append(f"{found['fillers']:.0%}" if "fillers" in found else "")
    cells.append(short(found["flops"] / 1e12))
    for took in found["seconds"].values():
        ms = [1e3 * took["computing"], 1e3 * took["moving"]]
        cells += [f"{' + '.join(map(short, ms))} = {short(sum(ms))}", short(max(ms))]
    return cells


def table(machine: str) -> str:
    """Every scheme of every case, the case named once."""
    record = load(machine, "scaling")
    header = ["model, mesh", "scheme", "collectives", "GB received", "by HLO", "fillers"]
    header.append("TFLOP of the busiest device")
    for name in MACHINES:
        header += [f"{name}: computing + moving, ms", "overlapped, ms"]
    rows = [
        ["" if number else case, f"`{x}`" if x in (OURS, OPTAX) else x, *_cells(found)]
        for case, schemes in record["cases"].items()
        for number, (x, found) in enumerate(schemes.items())
    ]
    return written(record, header, rows)


def compiled(targets: dict[str, Any]) -> str:
    """Target → model and mesh → update, a row for each."""
    header = ["target, model, mesh", "update", "collectives", "asynchronous"]
    header += ["GB received", "by formula", "computing, ms", "moving, ms", "moving hidden"]
    header += ["arguments + temporary memory, GB", "compile, s"]
    rows = []
    for target, cases in targets.items():
        for case, programs in cases.items():
            head = f"{target}, {case}"
            for name, row in programs.items():
                rows.append([head, f"`{name}`", *_compiled_cells(row)])
                head = ""
    return markdown(header, rows, left=2)


def _compiled_cells(row: dict[str, Any]) -> list[str]:
    if "failed" in row:
        return [row["failed"], *[""] * 8]
    kinds = ", ".join(f"{n} {kind}" for kind, n in sorted(row["collectives"].items()))
    formula = row.get("by_formula", {}).get("received")
    memory = [row["argument_bytes"], row["temp_bytes"]]
    return [
        kinds or "none",
        str(row["asynchronous"]),
        short(row["received"] / 1e9),
        short(formula / 1e9) if formula is not None else "",
        short(1e3 * row["computing_s"]),
        short(1e3 * row["wire_s"]),
        f"{max(0.0, 1 - row['waiting_s'] / row['wire_s']):.0%}" if row["wire_s"] else "–",
        " + ".join(short(size / 1e9) for size in memory),
        short(row["compile_s"]),
    ]


def compiled_table(machine: str) -> str:
    """What the compilers for TPUs and GPUs make of large models' updates."""
    record = load(machine, "scaling_compiled")
    note = f"<sub>Modelled times, not measured. {made_by(record)}</sub>"
    return f"{compiled(record['targets'])}\n\n{note}"


TABLES: dict[str, Callable[[str], str]] = {
    "scaling": table,
    "scaling_compiled": compiled_table,
}
