"""Makes tables and pictures from `benchmarks/results/`, the tables in README.md and docs/."""

import json
import re
from collections.abc import Callable

from curves import LABELS, Curve, crossings
from train_gpt import draw

from benchmarks.convergence import figures, tables
from benchmarks.polar import figures as polar_figures
from benchmarks.polar import tables as polar_tables
from benchmarks.record import RESULTS, ROOT, load
from benchmarks.text import made_by, markdown, median, spread
from benchmarks.timing import ratios


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


def step_table(machine: str) -> str:
    """What an optimizer step costs to compile, to hold and to run."""
    record = load(machine, "step")
    rows = []
    for tree, found in record["trees"].items():
        for name, cost in found.items():
            against = ratios(found["optax.contrib.muon"]["ms"], cost["ms"])
            static = ["", "", ""]
            if "hlo_lines" in cost:
                static = [
                    f"{cost['hlo_lines']}",
                    f"{cost['trace_s']:.1f} + {cost['compile_s']:.1f}",
                    f"{cost['temp_over_parameters']:.2f}",
                ]
            first = tree if name == "muon" else ""
            rows.append([first, f"`{name}`", *static, median(cost["ms"]), median(against)])
    header = ["parameters", "optimizer", "HLO lines", "trace + compile, s"]
    header += ["temporary memory", "step, ms", "speed against optax"]
    return f"{markdown(header, rows)}\n\n<sub>{made_by(record)}</sub>"


def train_step_table(machine: str) -> str:
    """The optimizer's share of a training step."""
    record = load(machine, "train_step")
    rows = []
    for model, found in record["models"].items():
        backward = found["ms"]["forward and backward"]
        for name, ms in found["ms"].items():
            first = f"{model}, {found['tokens']} tokens" if ms is backward else ""
            share = [100 * (1 - q) for q in ratios(backward, ms)]
            cells = (
                ["", ""]
                if ms is backward
                else [median(share), median(ratios(ms, found["ms"]["optax.adamw"]))]
            )
            rows.append([first, name, median(ms), *cells])
    header = ["GPT", "", "step, ms", "optimizer's share, %", "time / AdamW's"]
    return f"{markdown(header, rows)}\n\n<sub>{made_by(record)}</sub>"


TABLES: dict[str, Callable[[str], str]] = {
    "gpt": gpt_table,
    "sweep": sweep_table,
    "step": step_table,
    "train_step": train_step_table,
    **tables.TABLES,
    **polar_tables.TABLES,
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
    for path in [] if smoke else RESULTS.glob("*/polar.json"):
        polar_figures.draw(path.with_suffix(""), json.loads(path.read_text()))
    if not smoke:
        figures.draw(RESULTS / "convergence")
    for page in [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]:
        text = filled(page.read_text())
        if not smoke:
            page.write_text(text)
