"""Tables of the track: every entry of a task, compared with the reference.

An entry is equal if its mean loss is within `MARGIN` of the reference's with p < .01. Otherwise
it is better or worse if it differs, with p < .01, from the reference and from the reference of
a second search. All p include Holm's correction over the entries of the task.
"""

import json
import math
import statistics
from collections.abc import Iterable
from typing import Any, NamedTuple

from benchmarks.record import RESULTS
from benchmarks.text import made_by, markdown
from benchmarks.track import inference
from benchmarks.track.entry import find
from benchmarks.track.inference import Estimate

REFERENCE = "muon"  # whose steps are also timed in turns with every entry's
SECOND = "muon_again"  # the same optimizer with the settings of a second search
AGAIN = "again"  # the folder of runs with other seeds
LEFT_OUT = {"gpt": ("jordan_", "taylor_")}  # of the table: the entries of the claims
LEVEL = 0.01
MARGIN = 0.01  # of the reference's loss

Record = dict[str, Any]


class Compared(NamedTuple):
    """An entry and the reference.

    Attributes:
      gap: The difference of their losses.
      effect: It over the standard deviation of the seeds' differences, Cohen's d.
      differs: The corrected p of no difference to the reference, or to the second one.
      equal: The corrected p of a difference as large as the margin.
      verdict: In a word.
    """

    gap: Estimate
    effect: float
    differs: float
    equal: float
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
    losses = {name: finals(record) for name, record in records.items()}
    reference = losses.pop(REFERENCE)
    margin = MARGIN * statistics.mean(reference)
    found = {name: inference.compare(x, reference) for name, x in losses.items()}
    differ = inference.correct({name: differs(name, losses, reference) for name in losses})
    equal = inference.correct(
        {name: inference.equivalence(x, reference, margin) for name, x in losses.items()}
    )
    return {
        name: Compared(gap, effect, *ps, judge(gap, *ps))
        for name, (gap, _, effect) in found.items()
        for ps in [(differ[name], equal[name])]
    }


def differs(name: str, losses: dict[str, list[float]], reference: list[float]) -> float:
    """The p of no difference in one direction from the reference of either search."""
    found = inference.compare(losses[name], reference)
    if name == SECOND or SECOND not in losses:
        return found.p
    second = inference.compare(losses[name], losses[SECOND])
    return max(found.p, second.p) if found.of.mean * second.of.mean > 0 else 1.0


def table(machine: str, task: str) -> str:
    """Every entry of a task, the lowest loss first."""
    records = load(machine, task)
    compared, rows = compare_all(records), []
    step_s = min(min(record["step_s"][REFERENCE]) for record in records.values())
    shown = [name for name in records if not name.startswith(LEFT_OUT.get(task, ()))]
    for name in sorted(shown, key=lambda name: statistics.mean(finals(records[name]))):
        record, cells = records[name], ["", "", "", "", "the reference"]
        if name in compared:
            gap, effect, *ps, verdict = compared[name]
            cells = [interval(gap, signed=True), f"{effect:+.1f}", *map(probability, ps)]
            cells = [*([""] * 4 if verdict == "diverges" else cells), verdict]
        loss = interval(inference.estimate(finals(record)))
        time = "1" if name == REFERENCE else f"{step_time(record):.2g}"
        rows.append([find(name).title, loss, *cells, time, *to_target(record, step_s)])
    header = ["", "test loss", "minus Muon's", "d", "p (no difference)", "p (1 % or more)"]
    target = records[REFERENCE]["target"]
    header += ["verdict", "step time", f"steps to {target}", f"seconds to {target}"]
    return f"{markdown(header, rows)}\n\n<sub>{describe(records)}</sub>"


def judge(gap: Estimate, differs: float, equal: float) -> str:
    """In a word, what two p allow to say."""
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
        f"interval; {hours:.1f} CPU hours, searches included. {made_by({'provenance': made})}"
    )
