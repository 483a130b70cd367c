"""Tables of the compiled programs, from their JSON."""

from collections.abc import Callable
from typing import Any

from benchmarks.programs.kernels import KINDS
from benchmarks.programs.optimizers import OPTAX, OURS
from benchmarks.record import load
from benchmarks.text import made_by, markdown, short, written
from muon_optax.estimates._targets import TARGETS

HEADERS = dict(zip(KINDS, ("products", "input pass", "output pass", "other"), strict=True))
SHOWN_MODELS = {  # in the short table
    "768x2": "2 layers of width 768",
    "2048x2": "2 layers of width 2048",
    "llama7b-layer": "1 layer of Llama 7B",
}


def number(value: float | None) -> str:
    """Three digits, and a dash for what is not known."""
    return "–" if value is None else short(value)


def estimate(value: float | None, target: str) -> float | None:
    """In millions of cycles on a TPU, in milliseconds elsewhere."""
    return value if value is None else value * (1e-6 if TARGETS[target].kind == "tpu" else 1e3)


def unit(target: str) -> str:
    return {"tpu": "Mcycles", "gpu": "ms"}.get(TARGETS[target].kind, "")


def updates(targets: dict[str, Any]) -> str:
    """A row per update: estimate, kernels, bytes, memory, copies."""
    header = ["target, unit", "parameters", "update", "estimate", *HEADERS.values(), "kernels"]
    header += ["MB moved by products", "MB moved by the rest"]
    header += ["temporary memory / parameters", "copies + transposes + pads", "compile, s"]
    rows = []
    for target, models in targets.items():
        for model, found in models.items():
            head = [f"{target}, {unit(target)}", model]
            for name, row in found["programs"].items():
                rows.append([*head, f"`{name}`", *_cells(row, target)])
                head = ["", ""]
            if least := found["floor"]:
                parts = [number(estimate(least[part], target)) for part in least]
                total = number(estimate(sum(least.values()), target))
                blank = [""] * (len(header) - 6)
                rows.append(["", "", "floor", total, *parts, *blank])
    return markdown(header, rows, left=3)


def _cells(row: dict[str, Any], target: str) -> list[str]:
    key, kinds = TARGETS[target].unit, row["by_kind"]
    moved = {kind: kinds[kind]["bytes"] for kind in KINDS}
    other = [moved[kind] for kind in KINDS[1:]]
    return [
        number(estimate(row[key], target)),
        *(number(estimate(kinds[kind][key], target)) for kind in KINDS),
        number(row["kernels"]),
        *(number(b if b is None else b / 1e6) for b in (moved["products"], sum(other))),
        number(row["temp_over_parameters"]),
        " + ".join(str(count) for count in row["copies"].values()),
        number(row["compile_s"]),
    ]


def updates_table(machine: str) -> str:
    """All updates of the results."""
    record = load(machine, "programs")
    return (
        f"{updates(record['updates'])}\n\n<sub>Estimates, not measured. {made_by(record)}</sub>"
    )


def shown_targets(record: dict[str, Any]) -> list[str]:
    """Targets with results of all models of the short table."""
    return [name for name, of_it in record["updates"].items() if {*SHOWN_MODELS} <= {*of_it}]


def short_table(machine: str) -> str:
    """The short table: ours, Optax's and the floor."""
    record = load(machine, "programs")
    rows = []
    for target in shown_targets(record):
        key, models = TARGETS[target].unit, record["updates"][target]
        for name in (OURS, OPTAX, "floor"):
            cells = []
            for model in SHOWN_MODELS:
                found = models[model]
                floor = found["floor"] and sum(found["floor"].values())
                value = floor if name == "floor" else found["programs"][name][key]
                cells.append(number(estimate(value, target)))
            label = "floor" if name == "floor" else f"`{name}`"
            rows.append([f"{target}, {unit(target)}: {label}", *cells])
    return written(
        record, ["one update, estimated, not measured", *SHOWN_MODELS.values()], rows
    )


def polar_table(machine: str) -> str:
    """The polar step of one matrix."""
    record = load(machine, "programs")
    rows = []
    for target, sides in record["polar"].items():
        for side, found in sides.items():
            for name, row in found.items():
                value = estimate(row[TARGETS[target].unit], target)
                cells = [number(row["compile_s"]), number(row["code_bytes"] / 1e6)]
                cells += [number(row["temp_bytes"] / 1e6), number(value)]
                rows.append([f"{target}, {side}", f"`{name}`", *cells])
    header = ["target, matrix", "", "compile, s", "code, MB", "temporary memory, MB"]
    return written(record, [*header, "estimate, Mcycles or ms"], rows, left=2)


TABLES: dict[str, Callable[[str], str]] = {
    "programs": short_table,
    "programs_updates": updates_table,
    "programs_polar": polar_table,
}
