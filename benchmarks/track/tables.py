"""Tables of the track: every entry of a task, the paper's claims, and controls.

An entry is called equal if its mean loss is within `MARGIN` of the reference's at p < .01; else
better or worse at p < .01. Either has Holm's correction over the entries of the task. The level
and the margin were chosen before the first run.
"""

import json
import math
import statistics
from collections.abc import Iterable
from typing import Any, NamedTuple

from benchmarks.record import RESULTS
from benchmarks.text import made_by, markdown, short
from benchmarks.track import inference
from benchmarks.track.inference import Estimate

REFERENCE = "muon"  # whose steps are also timed in turns with every entry's
AGAIN = "again"  # the folder of what is trained once more, with other seeds
LEVEL = 0.01
MARGIN = 0.01  # of the reference's loss

Record = dict[str, Any]


class Compared(NamedTuple):
    """An entry and the reference: difference, corrected p, effect size and verdict."""

    gap: Estimate
    p: float
    effect: float
    verdict: str


def load(
    machine: str, task: str, needed: Iterable[str] = (REFERENCE,), again: bool = False
) -> dict[str, Record]:
    """The results of a task by entry, with all that are needed; of the same data and budget."""
    folder = RESULTS / machine / "track" / task / (AGAIN if again else "")
    records = {
        path.stem: json.loads(path.read_text()) for path in sorted(folder.glob("*.json"))
    }
    if missing := " ".join(name for name in needed if name not in records):
        command = f"python -m benchmarks track --task {task} --entry {missing}"
        command += " --again" if again else ""
        raise FileNotFoundError(f"{machine} has no results of {missing} yet; run `{command}`")
    if len({(r["data"], r["steps"]) for r in records.values()}) > 1:
        raise ValueError(f"results of {task} are of different data or budgets; measure again")
    return records


def finals(record: Record) -> list[float]:
    """The loss of every seed after the whole budget."""
    whole = record["steps"] // record["eval_every"]
    return [loss[-1] if len(loss) == whole else math.inf for loss in record["losses"]]


def compare_all(records: dict[str, Record]) -> dict[str, Compared]:
    """Every other entry, compared with the reference."""
    reference = finals(records[REFERENCE])
    margin = MARGIN * statistics.mean(reference)
    others = {name: finals(r) for name, r in records.items() if name != REFERENCE}
    found = {name: inference.compare(losses, reference) for name, losses in others.items()}
    differ = inference.correct({name: difference.p for name, difference in found.items()})
    equal = inference.correct(
        {name: inference.equivalence(x, reference, margin) for name, x in others.items()}
    )
    return {
        name: Compared(of, differ[name], effect, judge(of, differ[name], equal[name]))
        for name, (of, _, effect) in found.items()
    }


def table(machine: str, task: str) -> str:
    """Every entry of a task, the lowest loss first."""
    records = load(machine, task)
    compared, rows = compare_all(records), []
    step_s = min(min(record["step_s"][REFERENCE]) for record in records.values())
    for name in sorted(records, key=lambda name: statistics.mean(finals(records[name]))):
        record, cells = records[name], ["", "", "", "the reference"]
        if name in compared:
            gap, p, effect, verdict = compared[name]
            cells = [interval(gap, signed=True), probability(p), f"{effect:+.1f}", verdict]
            if verdict == "diverges":
                cells[:3] = "", "", ""
        loss = interval(inference.estimate(finals(record)))
        time = "1" if name == REFERENCE else short(step_time(record))
        rows.append([record["title"], loss, *cells, time, *to_target(record, step_s)])
    header = ["", "test loss", "less Muon's", "p", "d", "", "time of a step"]
    header += [f"steps to {records[REFERENCE]['target']}", "seconds"]
    return f"{markdown(header, rows)}\n\n<sub>{describe(records)}</sub>"


def settings_table(machine: str, task: str) -> str:
    """What the search chose for every entry."""
    rows = [
        [record["title"], *(f"{record['settings'][name]:.2g}" for name in record["settings"])]
        for record in load(machine, task).values()
    ]
    return markdown(["", "rate", "rate of the rest", "decay", "momentum"], rows)


def judge(gap: Estimate, differs: float, equal: float) -> str:
    """In words, what two p allow to say; below the margin it may be luck of the search."""
    if not math.isfinite(gap.mean):
        return "diverges"
    if equal < LEVEL:
        return "equal"
    if differs >= LEVEL:
        return "undecided"
    return "worse" if gap.mean > 0 else "better"


def to_target(record: Record, step_s: float) -> list[str]:
    """Steps to the target with their interval, and seconds; or how many seeds reach it."""
    every = record["eval_every"]
    steps = [inference.steps_to(record["target"], loss, every) for loss in record["losses"]]
    reached = [step for step in steps if math.isfinite(step)]
    if len(reached) < len(steps):
        return [f"{len(reached)} of {len(steps)} seeds", ""]
    seconds = statistics.mean(steps) * step_time(record) * step_s
    return [interval(inference.estimate(steps), digits=0), f"{seconds:.1f}"]


def step_time(record: Record) -> float:
    """The time of a step over the reference's, in turns."""
    pairs = zip(record["step_s"]["it"], record["step_s"][REFERENCE])
    return statistics.median(it / reference for it, reference in pairs)


def interval(found: Estimate, digits: int = 3, signed: bool = False) -> str:
    """Mean and half the interval."""
    if math.isinf(found.mean):
        return "–"
    sign = "+" if signed else ""
    return f"{found.mean:{sign}.{digits}f} ± {found.half:.{digits}f}"


def probability(p: float) -> str:
    """A p-value; all below 1e-4 are written alike."""
    return "< 1e-4" if p < 1e-4 else f"{p:.2g}"


def describe(records: dict[str, Record]) -> str:
    """Budget, cost and provenance of a task's results."""
    one, hours = next(iter(records.values())), sum(r["cpu_s"] for r in records.values()) / 3600
    commits = sorted({c for r in records.values() for c in r["provenance"]["commits"]})
    latest = max((r["provenance"] for r in records.values()), key=lambda p: p["date"])
    made = latest | {"commits": commits, "command": "python -m benchmarks track"}
    return (
        f"{len(one['losses'])} paired seeds, {one['steps']} steps; mean ± half the 95 % "
        f"interval; p of a paired t-test, corrected for {len(records) - 1} comparisons; d: the "
        f"difference over its standard deviation; time of a step over Muon's, "
        f"in turns. {hours:.1f} CPU hours, searches included. {made_by({'provenance': made})}"
    )
