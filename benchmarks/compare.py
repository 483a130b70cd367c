"""The comparison that users make, on GPT-2 small and on momenta of the byte GPT.

The first is `python -m muon_optax bench 48x768x768 24x768x3072`, in both dtypes; the second
is `compare(params, momenta=diagnostics.momentum(state))` after 150 steps of training.
"""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from rich.progress import Progress
from train_gpt import Config, Curve, Run, data, make_optimizer

from benchmarks.programs import FOLDER, versions
from benchmarks.record import load, provenance, save
from benchmarks.text import made_by, markdown, written
from muon_optax import Comparison, compare, diagnostics
from muon_optax.comparison._contenders import DEFAULT, OPTAX
from muon_optax.comparison._table import list_leaves, list_times

GPT2 = ("48x768x768", "24x768x3072")
STEPS = 150
SMOKE = {"layers": 1, "width": 32, "context": 16, "batch": 2}


def trained(config: Config) -> Run:
    """The byte GPT after its steps with Muon."""
    text, held_out = data(config)
    optimizer = make_optimizer(config, "muon", config.muon_lr)
    run = Run(config, optimizer, Curve("muon", config.muon_lr, 0), text)
    while not run.curve.step or run.curve.step[-1] < config.steps:
        run.advance(held_out)
    return run


def main(smoke: bool = False, targets: Sequence[str] = ()) -> None:
    """Compare, print, and keep the results as they come; with targets, estimate instead."""
    about = provenance()
    if targets:
        estimated = {}
        for target in targets:
            estimated[target] = _compare(GPT2, target=target)
            save("compare", about | versions(), estimated, FOLDER)
        return
    kept: dict[str, Any] = {}
    for dtype in () if smoke else ("float32", "bfloat16"):
        kept[dtype] = _compare(GPT2, dtype=dtype)
        save("compare", about, kept)
    config = Config(steps=2, eval_every=1, **SMOKE) if smoke else Config(steps=STEPS)
    run = trained(config)
    others = (name for name in DEFAULT if name != OPTAX)
    methods = ("jordan",) if smoke else ("jordan:3", *others)
    momenta = diagnostics.momentum(run.state)
    kept["momenta"] = _compare(run.params, methods, momenta=momenta)
    if not smoke:
        print(save("compare", about, kept))


def _compare(*arguments: Any, **options: Any) -> dict[str, Any]:
    with Progress(transient=True) as bar:
        task = bar.add_task("comparing")
        found = compare(
            *arguments,
            **options,
            progress=lambda done, total, text: bar.update(
                task, completed=done, total=total, description=text
            ),
        )
    print(found, flush=True)
    return found.to_dict()


def times_table(machine: str) -> str:
    """GPT-2 small: every shape and method in both dtypes, and the verdicts."""
    record = load(machine, "compare")
    tables = []
    for dtype in ("float32", "bfloat16"):
        found = Comparison.from_dict(record[dtype])
        tables += [written(record, *list_times(found), left=2), found.verdict]
    return "\n\n".join(tables)


def targets_table(machine: str) -> str:
    """GPT-2 small on processors that were not there, by their compilers."""
    record = load(machine, "compare")
    tables = []
    for target, of_it in record.items():
        if target != "provenance":
            found = Comparison.from_dict(of_it)
            header, rows = list_times(found)
            table = markdown([f"{target}, estimated", *header[1:]], rows, left=2)
            tables += [table, found.verdict]
    return "\n\n".join([*tables, f"<sub>{made_by(record)}</sub>"])


def momenta_table(machine: str) -> str:
    """What each method does to the momenta of a run, by leaf."""
    record = load(machine, "compare")
    return written(record, *list_leaves(Comparison.from_dict(record["momenta"])), left=2)


def draw(path: Path) -> None:
    """The picture of GPT-2 small in float32, where it was measured."""
    record = json.loads(path.read_text())
    if "float32" in record:
        picture = Comparison.from_dict(record["float32"]).plot()
        picture.savefig(path.with_suffix(".png"), dpi=130)


TABLES = {"compare": times_table, "compare_momenta": momenta_table}
TABLES["compare_targets"] = targets_table
