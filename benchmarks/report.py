"""Writes the tables of README.md and docs/ from `benchmarks/results/`, between their marks."""

import re
import statistics
from collections.abc import Callable

from benchmarks.record import ROOT, load

LABELS = {"adamw": "AdamW", "muon": "Muon"}


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


def at_time(curve: dict, seconds: float) -> float:
    """The loss of the last evaluation within so many seconds of training."""
    return [x for s, x in zip(curve["seconds"], curve["loss"]) if s <= seconds][-1]


def spread(values: list[float], digits: int) -> str:
    """Mean and range."""
    low, mean, high = (f"{f(values):.{digits}f}" for f in (min, statistics.mean, max))
    return f"{mean} ({low} to {high})"


def gpt_table() -> str:
    """Muon beside AdamW on the byte GPT: equal steps, steps to equal loss, equal time."""
    record = load("gpt")
    steps = record["steps"]
    adamw, muon = (
        [c for c in record["seeds"] if c["optimizer"] == name] for name in ("adamw", "muon")
    )
    ends = [curve["loss"][-1] for curve in adamw]
    reached = [
        next(s for s, x in zip(curve["step"], curve["loss"]) if x <= end)
        for curve, end in zip(muon, ends)
    ]
    slower = [m["seconds"][-1] / a["seconds"][-1] for a, m in zip(adamw, muon)]
    by_clock = [at_time(m, a["seconds"][-1]) for a, m in zip(adamw, muon)]
    rates = [f"{runs[0]['learning_rate']:g}" for runs in (adamw, muon)]
    share = 100 * max(reached) / steps
    rows = [
        ["learning rate, best of 5", *rates],
        [
            f"loss after {steps} steps",
            spread(ends, 3),
            spread([c["loss"][-1] for c in muon], 3),
        ],
        [
            "steps to AdamW's final loss",
            str(steps),
            f"{min(reached)} to {max(reached)} (at most {share:.0f} %)",
        ],
        ["loss after AdamW's training time", spread(ends, 3), spread(by_clock, 3)],
        ["time per step", "1", f"{spread(slower, 2)}"],
    ]
    table = markdown(["byte GPT, 3 seeds: mean (range)", "AdamW", "Muon"], rows)
    return f"{table}\n\n<sub>{made_by(record)}</sub>"


def sweep_table() -> str:
    """The final loss at every learning rate of the sweep."""
    record = load("gpt")
    rows = []
    for name in LABELS:
        curves = [c for c in record["sweep"] if c["optimizer"] == name]
        best = min(c["loss"][-1] for c in curves)
        marked = [
            f"{c['learning_rate']:g}: {'**' * (x == best)}{x:.3f}{'**' * (x == best)}"
            for c in curves
            for x in [c["loss"][-1]]
        ]
        rows.append([LABELS[name], *marked])
    return markdown(["learning rate: loss", *["" for _ in rows[0][1:]]], rows)


def footprint_table() -> str:
    """Compile cost and memory of one step, ours beside optax's, and unrolled steps."""
    record = load("footprint")
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


TABLES: dict[str, Callable[[], str]] = {
    "gpt": gpt_table,
    "sweep": sweep_table,
    "footprint": footprint_table,
}


def filled(text: str) -> str:
    """A page with every table between `<!-- table: NAME -->` and `<!-- end -->` made anew."""
    return re.sub(
        r"(<!-- table: (\w+) -->\n).*?(<!-- end -->)",
        lambda found: f"{found[1]}{TABLES[found[2]]()}\n{found[3]}",
        text,
        flags=re.DOTALL,
    )


def main(smoke: bool = False) -> None:
    """Rewrite the pages; with `smoke`, only see that they can be made."""
    for page in [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]:
        text = filled(page.read_text())
        if not smoke:
            page.write_text(text)
