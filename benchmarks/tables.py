"""Tables of `gpt`, `step` and `train_step`, from their JSON."""

from collections.abc import Callable

from curves import LABELS, Curve, crossings

from benchmarks.record import load
from benchmarks.step import ALONE, OPTAX, TORCH
from benchmarks.text import markdown, mean, median, written
from benchmarks.train_step import BACKWARD
from muon_optax.comparison._timing import ratios


def gpt_table(machine: str) -> str:
    """Muon and AdamW on the byte GPT: equal steps, steps to equal loss, equal time."""
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
        row(f"loss after {steps} steps", lambda its: mean([c.loss[-1] for c in its], 3)),
        row("Muon reaches that loss at step", crossing),
        row(
            "loss after AdamW's training time",
            lambda its: mean([c.loss_within(a.seconds[-1]) for a, c in zip(adamw, its)], 3),
        ),
        row(
            "time per step",
            lambda its: mean([c.seconds[-1] / a.seconds[-1] for a, c in zip(adamw, its)], 2),
        ),
    ]
    return written(record, ["byte GPT, 3 seeds: mean (range)", *LABELS.values()], rows)


def sweep_table(machine: str) -> str:
    """The final loss at every learning rate of the sweep, the best one bold."""
    curves = [Curve(**curve) for curve in load(machine, "gpt")["sweep"]]
    rows = []
    for name, label in LABELS.items():
        losses = {c.learning_rate: c.loss[-1] for c in curves if c.optimizer == name}
        cells = {rate: f"{rate:g}: {loss:.3f}" for rate, loss in losses.items()}
        best = min(losses, key=lambda rate: losses[rate])
        rows.append([label, *(cells | {best: f"**{cells[best]}**"}).values()])
    header = ["learning rate: loss", *[""] * (len(rows[0]) - 1)]
    return markdown(header, rows)


def step_table(machine: str) -> str:
    """Compile time, temporary memory and run time of an optimizer step."""
    record = load(machine, "step")
    rows = []
    for tree, found in record["trees"].items():
        for name, cost in found.items():
            static = ["–"] * 3  # PyTorch compiles nothing here
            if "hlo_lines" in cost:
                compiling = f"{cost['trace_s']:.1f} + {cost['compile_s']:.1f}"
                memory = f"{cost['temp_over_parameters']:.2f}"
                static = [f"{cost['hlo_lines']}", compiling, memory]
            against = [
                median(ratios(found[other]["ms"], cost["ms"])) if other in found else "–"
                for other in (OPTAX, TORCH)
            ]
            head = [tree if name == "muon" else "", f"`{name}`"]
            rows.append([*head, *static, median(cost["ms"]), *against])
    header = ["parameters", "optimizer", "HLO lines", "trace + compile, s"]
    header += ["temporary memory", "step, ms"]
    header += [f"`{name}` / this row" for name in (OPTAX, TORCH)]
    return written(record, header, rows)


def step_shapes_table(machine: str) -> str:
    """A step of trees of one shape, compared with Optax's."""
    record = load(machine, "step")
    rows = []
    for shape, found in record["shapes"].items():
        ms = {name: found[name]["ms"] for name in ALONE}
        against = [median(ratios(ms[OPTAX], ms[name])) for name in ALONE if name != OPTAX]
        rows.append([shape, median(ms["muon"]), *against, f"{found['error']:.0e}"])
    header = ["matrices", "`muon`, ms"]
    header += [f"`{OPTAX}` / `{name}`" for name in ALONE if name != OPTAX]
    return written(record, [*header, "largest difference from float64"], rows)


def train_step_table(machine: str) -> str:
    """The optimizer's share of a training step."""
    record = load(machine, "train_step")
    rows = []
    for model, found in record["models"].items():
        backward, ours = found["ms"][BACKWARD], found["ms"]["muon"]
        rows.append([f"{model}, {found['tokens']} tokens", BACKWARD, median(backward), "", ""])
        for name, ms in found["ms"].items():
            if name != BACKWARD:
                share = [100 * (1 - q) for q in ratios(backward, ms)]
                cells = [median(ms), median(share), median(ratios(ms, ours))]
                rows.append(["", f"`{name}`", *cells])
    header = ["GPT", "", "step, ms", "optimizer's share, %", "step / step with `muon`"]
    return written(record, header, rows)


TABLES: dict[str, Callable[[str], str]] = {
    "gpt": gpt_table,
    "sweep": sweep_table,
    "step": step_table,
    "step_shapes": step_shapes_table,
    "train_step": train_step_table,
}
