"""Whether Muon fine-tunes what AdamW has trained: new loss, old loss, change of the matrices.

The question of arXiv 2605.10468, https://arxiv.org/abs/2605.10468, at small size. A GPT trained
on code by AdamW, or by Muon as the control, is trained on prose by either, in full or by LoRA,
at seven rates. Embeddings and head stay as they are, so that only the matrices differ.
"""

import statistics
from collections.abc import Hashable
from itertools import product
from typing import Any, NamedTuple

import jax
import numpy as np
from curves import COLORS
from jax.flatten_util import ravel_pytree

from benchmarks import store
from benchmarks.pictures import add_legend, begin, keep, write_ticks
from benchmarks.pool import run_all
from benchmarks.record import RESULTS, folder, load, provenance, save
from benchmarks.text import short, written
from benchmarks.track import entry, finetuning, inference, lora
from benchmarks.track.entry import Settings
from benchmarks.track.tables import interval
from benchmarks.track.tasks import task
from benchmarks.track.training import Job, follow, program

NAMES = {"adamw": "AdamW", "muon": "Muon"}
WAYS = {"finetuning": "in full", "lora": "by LoRA"}  # by the task
MIDDLE = {  # of the seven rates
    ("finetuning", "adamw"): 0.004,
    ("finetuning", "muon"): 0.016,
    ("lora", "adamw"): 0.016,
    ("lora", "muon"): 0.032,
}
FACTORS = tuple(2.0**k for k in range(-3, 4))
SEEDS = range(finetuning.BASES)

Tree = Any


class Case(NamedTuple):
    """Trained on code by `before`, then on prose by an optimizer, at a rate."""

    before: str
    way: str
    optimizer: str
    rate: float


def main(smoke: bool = False) -> None:
    """Every case with every seed; keep the losses and their picture."""
    if smoke:
        params, _ = task("gpt").init(0)
        assert train(Case("adamw", "lora", "muon", 0.01), params, 0, steps=2)["change"] > 0
        return
    made_by = provenance()
    sides = product(NAMES, WAYS, NAMES, FACTORS)
    cases = [Case(b, way, o, MIDDLE[way, o] * factor) for b, way, o, factor in sides]
    calls: dict[Hashable, Any] = {
        (case, seed): (measure, (case, seed)) for case in cases for seed in SEEDS
    }
    calls |= {(name, seed): (measure_base, (name, seed)) for name in NAMES for seed in SEEDS}
    found = run_all(calls, "fine-tuning")

    def by_seed(what: Case | str) -> dict[str, list[float]]:
        runs = [found[what, seed] for seed in SEEDS]
        return {name: [round(run[name], 5) for run in runs] for name in runs[0]}

    measured = {
        "steps": finetuning.STEPS,
        "bases": {name: by_seed(name) for name in NAMES},
        "runs": [case._asdict() | by_seed(case) for case in cases],
    }
    save("finetuning", made_by | {"commits": sorted(store.COMMITS)}, measured)
    draw(folder().name)


def measure(case: Case, seed: int) -> dict[str, float]:
    """What a run leads to, from memory if it was run before."""
    before = finetuning.PRETRAINING[case.before]
    versions = [entry.version(name) for name in (case.before, case.optimizer)]
    key = {"case": list(case), "seed": seed, "versions": versions, "before": list(before)}
    key |= {"steps": finetuning.STEPS, "data": task(case.way).fingerprint()}
    base = finetuning.pretrained(seed, case.before)
    return store.remembered(key, lambda: train(case, base, seed, finetuning.STEPS))


def measure_base(name: str, seed: int) -> dict[str, float]:
    """The losses before fine-tuning."""
    return judge(finetuning.pretrained(seed, name))


def train(case: Case, base: Tree, seed: int, steps: int) -> dict[str, float]:
    """Losses after training on prose, and how far the matrices have moved."""
    params, constants = base, ()
    if case.way == "lora":
        params, constants = lora.factors(base, jax.random.key(seed)), base
    settings = Settings(case.rate, rest_rate=0.0, decay=0.0)
    *_, last = follow(Job(case.way, case.optimizer, settings, seed, steps), params, constants)
    after = lora.merge(base, last) if case.way == "lora" else last
    return judge(after) | {"change": change(base, after)}


def judge(params: Tree) -> dict[str, float]:
    """The loss on prose, to choose a rate by and to report, and on code."""
    compiled, prose = program("gpt", "muon", False), task("finetuning")
    texts = {"tuning": prose.tuning, "new": prose.test, "old": task("gpt").test}
    return {name: float(compiled.judge(params, (), text)) for name, text in texts.items()}


def change(base: Tree, after: Tree) -> float:
    """`|ΔW| / |W|` of all matrices of the blocks together, by Frobenius's norm."""
    before, now = (
        np.asarray(ravel_pytree({k: v for k, v in tree.items() if "block" in k})[0])
        for tree in (base, after)
    )
    return float(np.linalg.norm(now - before) / np.linalg.norm(before))


def group(record: dict, before: str, way: str, optimizer: str) -> list[dict]:
    """The runs of one curve, by rate."""
    named = {"before": before, "way": way, "optimizer": optimizer}
    return [run for run in record["runs"] if named.items() <= run.items()]


def best(runs: list[dict]) -> dict:
    """The rate of the lowest mean loss on the tuning batch, of those that did not diverge."""
    finite = [run for run in runs if np.isfinite(run["tuning"]).all()]
    return min(finite, key=lambda run: statistics.mean(run["tuning"]))


def table(machine: str) -> str:
    """What the best rate of every optimizer leads to, and the models before fine-tuning."""
    record = load(machine, "finetuning")
    rows = []
    for before, name in NAMES.items():
        base = record["bases"][before]
        losses = [interval(inference.estimate(base[kind])) for kind in ("new", "old")]
        rows.append([name, "not at all", "", "", "", *losses])
        for way, optimizer in product(WAYS, NAMES):
            run = best(group(record, before, way, optimizer))
            losses = [interval(inference.estimate(run[kind])) for kind in ("new", "old")]
            moved = short(statistics.mean(run["change"]))
            rows.append([name, WAYS[way], NAMES[optimizer], f"{run['rate']:g}", moved, *losses])
    header = ["trained by", "fine-tuned", "by", "rate, best of 7", "change", "new loss"]
    return written(record, [*header, "old loss"], rows, left=3)


def gap_table(machine: str) -> str:
    """Muon's losses less AdamW's: both at their best rates, and at AdamW's best change."""
    record = load(machine, "finetuning")
    rows = []
    for before, way in product(NAMES, WAYS):
        ours, theirs = (group(record, before, way, name) for name in ("muon", "adamw"))
        reference, cells = best(theirs), []
        for kind in ("new", "old"):
            cells.append(inference.compare(best(ours)[kind], reference[kind]).of)
        for kind in ("new", "old"):
            equal = at_change(ours, reference["change"], kind)
            cells.append(inference.compare(equal, reference[kind]).of)
        rows.append([NAMES[before], WAYS[way], *(interval(c, signed=True) for c in cells)])
    header = ["trained by", "fine-tuned", "new loss, best rates", "old loss, best rates"]
    header += ["new loss, equal change", "old loss, equal change"]
    return written(record, header, rows, left=2)


def at_change(runs: list[dict], changes: list[float], kind: str) -> list[float]:
    """The loss of every seed where its matrices have changed so much, between two rates.

    NaN if no rates are on either side of the change.
    """
    moved, losses = (np.array([run[name] for run in runs]).T for name in ("change", kind))
    found = []
    for change, x, y in zip(changes, moved, losses):
        order = np.argsort(x)
        outside = {"left": np.nan, "right": np.nan}
        found.append(float(np.interp(np.log(change), np.log(x[order]), y[order], **outside)))
    return found


def draw(machine: str) -> None:
    """New and old loss by the change of the matrices, a point a rate."""
    record = load(machine, "finetuning")
    title = "What code has trained is trained on prose, by two optimizers at seven rates"
    figure, axes = begin(title, 2, 2, height=6.0, sharex="col", sharey="row")
    for (row, kind), (column, way) in product(enumerate(("new", "old")), enumerate(WAYS)):
        panel = axes[row, column]
        for before, optimizer in product(NAMES, NAMES):
            runs = group(record, before, way, optimizer)
            x, y = (np.mean([run[name] for run in runs], 1) for name in ("change", kind))
            label = f"{NAMES[optimizer]} after {NAMES[before]}"
            style = {"color": COLORS[optimizer], "ls": "-" if before == "adamw" else ":"}
            panel.plot(x, y, marker="o", ms=4, label=label, **style)
        panel.set_xscale("log")
        write_ticks(panel.xaxis)
        text = "prose, new" if kind == "new" else "code, old"
        panel.set_title(f"loss on {text}; fine-tuned {WAYS[way]}", fontsize=9)
    for panel in axes[1]:
        panel.set_xlabel("relative change of the matrices")
    add_legend(figure, 4)
    keep(figure, RESULTS / machine, "finetuning")


TABLES = {"finetuning": table, "finetuning_gaps": gap_table}
