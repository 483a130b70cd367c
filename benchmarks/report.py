"""Writes the tables of README.md and docs/ from `benchmarks/results/`, between their marks."""

import re
import statistics
from collections.abc import Callable

from curves import LABELS, Curve

from benchmarks.record import ROOT, load


def markdown(header: list[str], rows: list[list[str]]) -> str:
    """A table, the first column to the left, the others to the right."""
    lines = [header, ["---", *["---:"] * (len(header) - 1)], *rows]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)


def made_by(record: dict) -> str:
    """One sentence on machine, versions, commit, command and date."""
    p = record["provenance"]
    return (
        f"{p['processor']}, {p['cores']} cores; jax {p['jax']}, optax {p['optax']}, "
        f"flax {p['flax']}, Python {p['python']}; `{p['command']}` at {p['commit']}, "
        f"{p['date']}."
    )


def spread(values: list[float], digits: int) -> str:
    """Mean and range."""
    low, mean, high = (f"{f(values):.{digits}f}" for f in (min, statistics.mean, max))
    return f"{mean} ({low} to {high})"


def gpt_table(machine: str) -> str:
    """Muon beside AdamW on the byte GPT: equal steps, steps to equal loss, equal time."""
    record = load(machine, "gpt")
    steps, curves = record["steps"], [Curve(**curve) for curve in record["seeds"]]
    adamw, muon = ([c for c in curves if c.optimizer == name] for name in ("adamw", "muon"))
    pairs = list(zip(adamw, muon))
    ends = spread([a.loss[-1] for a in adamw], 3)
    reached = [m.steps_to(a.loss[-1]) or steps for a, m in pairs]
    by_clock = [m.loss_within(a.seconds[-1]) for a, m in pairs]
    slower = [m.seconds[-1] / a.seconds[-1] for a, m in pairs]
    share = f"{100 * max(reached) / steps:.0f} %"
    rows = [
        ["learning rate, best of 5", *(f"{c.learning_rate:g}" for c in pairs[0])],
        [f"loss after {steps} steps", ends, spread([m.loss[-1] for m in muon], 3)],
        [
            "steps to AdamW's final loss",
            f"{steps}",
            f"{min(reached)} to {max(reached)}: {share}",
        ],
        ["loss after AdamW's training time", ends, spread(by_clock, 3)],
        ["time per step", "1", spread(slower, 2)],
    ]
    table = markdown(["byte GPT, 3 seeds: mean (range)", "AdamW", "Muon"], rows)
    return f"{table}\n\n<sub>{made_by(record)}</sub>"


def sweep_table(machine: str) -> str:
    """The final loss at every learning rate of the sweep, the best one bold."""
    curves = [Curve(**curve) for curve in load(machine, "gpt")["sweep"]]
    rows = []
    for name, label in LABELS.items():
        of_it = [c for c in curves if c.optimizer == name]
        best = min(of_it, key=lambda c: c.loss[-1])
        cells = [f"{c.learning_rate:g}: {c.loss[-1]:.3f}" for c in of_it]
        cells[of_it.index(best)] = f"**{cells[of_it.index(best)]}**"
        rows.append([label, *cells])
    return markdown(["learning rate: loss", *["" for _ in rows[0][1:]]], rows)


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
        "temporary ÷ parameters",
        "optax's time ÷ its",
    ]
    return f"{markdown(header, rows)}\n\n<sub>{made_by(record)}</sub>"


TABLES: dict[str, Callable[[str], str]] = {
    "gpt": gpt_table,
    "sweep": sweep_table,
    "footprint": footprint_table,
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
    """Rewrite the pages; with `smoke`, only see that they can be made."""
    for page in [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]:
        text = filled(page.read_text())
        if not smoke:
            page.write_text(text)
