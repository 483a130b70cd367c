"""Tables and pictures from `benchmarks/results/`, after a check of the results.

A page has a table between `<!-- NAME of MACHINE -->` and `<!-- end -->`.
"""

import json
import re
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

from curves import Curve, draw

from benchmarks import checks, compare, finetuning, health, peers, quality, switch, tables
from benchmarks.convergence import figures
from benchmarks.convergence import tables as convergence_tables
from benchmarks.polar import figures as polar_figures
from benchmarks.polar import tables as polar_tables
from benchmarks.programs import figures as program_figures
from benchmarks.programs import tables as program_tables
from benchmarks.record import RESULTS, ROOT, folder
from benchmarks.scaling import tables as scaling_tables
from benchmarks.sharding import tables as sharding_tables
from benchmarks.track import claims as track_claims
from benchmarks.track import figures as track_figures
from benchmarks.widths import figures as width_figures
from benchmarks.widths import tables as width_tables

TABLES: dict[str, Callable[[str], str]] = (
    tables.TABLES
    | compare.TABLES
    | polar_tables.TABLES
    | convergence_tables.TABLES
    | {"switch": switch.table}
    | health.TABLES
    | peers.TABLES
    | finetuning.TABLES
    | sharding_tables.TABLES
    | scaling_tables.TABLES
    | program_tables.TABLES
    | quality.TABLES
    | track_claims.TABLES
    | width_tables.TABLES
)

ACCELERATORS = "accelerators"
OF_SPEED = ("compare", "polar_float32", "polar_bfloat16", "step", "train_step")


def table(name: str, machine: str) -> str:
    """A table by its name in a page; `speed` is what is measured of every accelerator."""
    if (name, machine) == ("speed", ACCELERATORS):
        return speed()
    if name not in TABLES:
        raise ValueError(f"no table is called {name!r}; use one of {', '.join(TABLES)}")
    return TABLES[name](machine)


def speed() -> str:
    """The tables of speed of every machine whose results are of a GPU or TPU."""
    found = []
    for machine in sorted(filter(_is_accelerator, RESULTS.iterdir())):
        for name in OF_SPEED:
            with suppress(FileNotFoundError):
                found.append(TABLES[name](machine.name))
    none = "No accelerator has been measured yet. If you have one, run `make accelerator`."
    return "\n\n".join(found) or none


def _is_accelerator(folder: Path) -> bool:
    records = [json.loads(path.read_text()) for path in folder.glob("*.json")]
    return any(record["provenance"]["device"] != "cpu" for record in records)


def filled(text: str) -> str:
    """A page with its tables made from the results."""
    return re.sub(
        r"(<!-- (\w+) of (\S+) -->\n).*?(<!-- end -->)",
        lambda found: f"{found[1]}{table(found[2], found[3])}\n{found[4]}",
        text,
        flags=re.DOTALL,
    )


def show(measurement: str = "") -> None:
    """Print the tables of one measurement, or of all, from this machine's results."""
    for name in TABLES:
        if measurement in ("", name) or name.startswith(f"{measurement}_"):
            with suppress(FileNotFoundError):
                print(f"{name}\n\n{table(name, folder().name)}\n")


def draw_gpt(path: Path) -> None:
    """The curves of the seeds of `gpt`."""
    curves = [Curve(**curve) for curve in _read(path)["seeds"]]
    draw(path.with_suffix("") / "curves.png", curves)


# What matches in `benchmarks/results` → what draws its picture.
PICTURES: dict[str, Callable[[Path], None]] = {
    "convergence": figures.draw,
    "*/gpt.json": draw_gpt,
    "*/polar.json": lambda path: polar_figures.draw(path.with_suffix(""), _read(path)),
    "*/switch.json": lambda path: switch.draw(path.parent.name),
    "*/compare.json": compare.draw,
    "*/health.json": lambda path: health.draw(path.parent.name),
    "*/finetuning.json": lambda path: finetuning.draw(path.parent.name),
    "*/widths.json": lambda path: width_figures.draw(path.parent, _read(path)),
    "*/programs.json": lambda path: program_figures.draw(path.parent, _read(path)),
    **{f"*/track/{task}": track_figures.draw for task in track_claims.DRAWN},
}


def main(smoke: bool = False) -> None:
    """Check the results, redraw pictures and rewrite pages; with `smoke`, write nothing."""
    checks.check_results()
    for pattern, draw_it in () if smoke else PICTURES.items():
        for path in sorted(RESULTS.glob(pattern)):
            draw_it(path)
    for page in [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]:
        text = filled(page.read_text())
        if not smoke and text != page.read_text():
            page.write_text(text)
            print(page)


def _read(path: Path) -> dict:
    return json.loads(path.read_text())
