"""Makes the table of `soak` from its JSON."""

from collections.abc import Callable

import numpy as np

from benchmarks.record import load
from benchmarks.text import short, written

WARM = 2000  # the step from which on memory is compared


def table(machine: str) -> str:
    """What was done to the run, and what became of it."""
    record = load(machine, "soak")
    found = _faults(record) | _kills(record) | _process(record) | _training(record)
    header = [f"{record['steps']} steps, checkpoints by Orbax {record['orbax']}", "outcome"]
    return written(record, header, [*map(list, found.items())])


def _faults(record: dict) -> dict[str, str]:
    faults, skipped = record["faults"], record["ends"]["killed"]["skipped"]
    matrices, fallback = (f"{skipped[name]} of {n}" for name, n in faults["skipped"].items())
    return {
        "faulty gradients": _counts(faults["kinds"]),
        "where": _counts(faults["places"]),
        "matrices skipped, of those with NaN or infinity": matrices,
        "steps skipped by the fallback, likewise": fallback,
    }


def _kills(record: dict) -> dict[str, str]:
    kills, digests = record["kills"], record["digests"]
    newest = sum(kill["begins"] == kill["whole"] for kill in kills)
    torn = sum(kill["torn"] for kill in kills)
    during, between = (
        [kill["last"] - kill["begins"] for kill in kills if kill["writing"] == writing]
        for writing in (True, False)
    )
    return {
        "kills": f"{len(kills)}: {len(during)} during a write, {torn} of which left it torn",
        "went on from the newest whole checkpoint": f"{newest} of {len(kills)}",
        "most steps lost; by a kill during a write": f"{max(between)}; {max(during)}",
        "steps between checkpoints": f"{record['every']}",
        "checkpoints with the undisturbed run's bits, up to the last": (
            f"{digests['equal']} of {digests['compared']}"
        ),
    }


def _process(record: dict) -> dict[str, str]:
    """Programs of all processes, the memory of the one that was not killed."""
    most = {k: max(p[k] for p in record["programs"]) for k in ("traces", "compiled")}
    megabytes = np.array(record["resident"]) / 1e6
    steps = record["every"] * np.arange(1, 1 + len(megabytes))
    steps, megabytes = steps[steps >= WARM], megabytes[steps >= WARM]
    slope = np.polyfit(steps / 1000, megabytes, 1)[0]
    memory = f"memory without checkpoints, after {steps[0]} steps; at the end"
    minutes = {name: f"{seconds / 60:.1f}" for name, seconds in record["seconds"].items()}
    return {
        "traces of the step in a process; programs compiled after it": (
            f"{most['traces']}; {most['compiled']}"
        ),
        memory: f"{megabytes[0]:.0f} MB; {megabytes[-1]:.0f} MB",
        "its slope": f"{short(slope)} MB per 1000 steps",
        "undisturbed; with all kills": f"{minutes['alone']} min; {minutes['killed']} min",
    }


def _training(record: dict) -> dict[str, str]:
    loss, finite = record["loss"], record["ends"]["killed"]["finite"]
    return {
        "loss in the first, the worst and the last twentieth": (
            ", ".join(map(short, (loss[0], max(loss), loss[-1])))
        ),
        "parameters; state": "; ".join(
            "finite" if ok else "not finite" for ok in finite.values()
        ),
    }


def _counts(found: dict[str, int]) -> str:
    return ", ".join(f"{n} {name}" for name, n in sorted(found.items()))


TABLES: dict[str, Callable[[str], str]] = {"soak": table}
