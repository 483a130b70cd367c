"""Makes tables and pictures from `benchmarks/results/`, the tables in README.md and docs/."""

import json
import re
from collections.abc import Callable

from curves import LABELS, Curve, crossings
from train_gpt import draw

from benchmarks.convergence import figures, tables
from benchmarks.record import RESULTS, ROOT, load
from benchmarks.text import made_by, markdown, spread


def gpt_table(machine: str) -> str:
    """Muon beside AdamW on the byte GPT: equal steps, steps to equal loss, equal time."""
    record = load(machine, "gpt")
    steps, curves = record["steps"], [Curve(**curve) for curve in record["seeds"]]
    runs = {name: [c for c in curves if c.optimizer == name] for name in LABELS}
    adamw, muon = runs["adamw"], runs["muon"]

    def row(label: str, cell: Callable[[list[Curve]], str]) -> list[str]:
        return [label, *map(cell, runs.values())]

    def crossing(of_it: list[Curve]) -> str:
        if of_it is muon:
            return f"{steps}"
        reached = [step or steps for step in crossings(curves, of_it[0].optimizer).values()]
        return f"{min(reached)} to {max(reached)} ({100 * max(reached) / steps:.0f} %)"

    rows = [
        row("learning rate, best of 5", lambda its: f"{its[0].learning_rate:g}"),
        row(f"loss after {steps} steps", lambda its: spread([c.loss[-1] for c in its], 3)),
        row("Muon is there at step", crossing),
        row(
            "loss after AdamW's training time",
            lambda its: spread([c.loss_within(a.seconds[-1]) for a, c in zip(adamw, its)], 3),
        ),
        row(
            "time per step",
            lambda its: spread([c.seconds[-1] / a.seconds[-1] for a, c in zip(adamw, its)], 2),
        ),
    ]
    table = markdown(["byte GPT, 3 seeds: mean (range)", *LABELS.values()], rows)
    return f"{table}\n\n<sub>{made_by(record)}</sub>"


def sweep_table(machine: str) -> str:
    """The final loss at every learning rate of the sweep, the best one bold."""
    curves = [Curve(**curve) for curve in load(machine, "gpt")["sweep"]]
    tables = []
    for name, label in LABELS.items():
        of_it = {c.learning_rate: c.loss[-1] for c in curves if c.optimizer == name}
        best = min(of_it.values())
        losses = [f"**{x:.3f}**" if x == best else f"{x:.3f}" for x in of_it.values()]
        header = ["learning rate", *(f"{rate:g}" for rate in of_it)]
        tables.append(markdown(header, [[label, *losses]]))
    return "\n\n".join(tables)


def footprint_table(machine: str) -> str:
    """Compile cost and memory of one step, ours beside optax's, and unrolled steps."""
    record = load(machine, "footprint")
    rows = [
        [
            tree if name == "ours" else "",
            {"ours": "`muon`", "optax": "`optax.contrib.muon`", "unrolled": "`muon`, unrolled"}[
                name
            ],
            f"{cost['hlo_lines']}",
            f"{cost['trace_s']:.1f} + {cost['compile_s']:.1f}",
            f"{cost['temp_over_parameters']:.2f}",
            "{1:.2f} ({0:.2f} to {2:.2f})".format(*cost["optax_over_it"]),
        ]
        for tree, costs in record["trees"].items()
        for name, cost in costs.items()
    ]
    header = [
        "parameters",
        "optimizer",
        "HLO lines",
        "trace + compile, s",
        "temporary memory",
        "speed against optax",
    ]
    return f"{markdown(header, rows)}\n\n<sub>{made_by(record)}</sub>"


TABLES: dict[str, Callable[[str], str]] = {
    "gpt": gpt_table,
    "sweep": sweep_table,
    "footprint": footprint_table,
    **tables.TABLES,
}


def filled(text: str) -> str:
    """A page, the tables between `<!-- NAME of MACHINE -->` and `<!-- end -->` made anew."""
    return re.sub(
        r"(<!-- (\w+) of (\S+) -->\n).*?(<!-- end -->)",
        lambda found: f"{found[1]}{TABLES[found[2]](found[3])}\n{found[4]}",
        text,
        flags=re.DOTALL,
    )


def main(smoke: bool = False) -> None:
    """Redraw the pictures and rewrite the pages; with `smoke`, only see what can be made."""
    for path in [] if smoke else RESULTS.glob("*/gpt.json"):
        curves = [Curve(**curve) for curve in json.loads(path.read_text())["seeds"]]
        draw(path.with_suffix("") / "curves.png", curves)
    if not smoke:
        figures.draw(RESULTS / "convergence")
    for page in [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]:
        text = filled(page.read_text())
        if not smoke:
            page.write_text(text)
