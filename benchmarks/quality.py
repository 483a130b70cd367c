"""Tables of what `python -m tests.quality` writes: the catalogue and the soak."""

from collections import Counter
from collections.abc import Callable

import numpy as np

from benchmarks.record import load
from benchmarks.text import written

LIBRARIES = ("muon_optax", "optax.contrib")
OUTCOMES = ("right", "wrong", "not offered")
WARM_UP = 2000  # steps before memory is compared


def catalogue_table(machine: str) -> str:
    """One row per input on which a library is not right, with what was observed."""
    record = load(machine, "catalogue")
    rows = [
        [number, row["input"], row["expected"], *(_cell(row[name]) for name in LIBRARIES)]
        for number, row in record["rows"].items()
        if any(row[name]["outcome"] != "right" for name in LIBRARIES)
    ]
    header = ["#", "input", "expected", *(f"`{name}`" for name in LIBRARIES)]
    return written(record, header, rows, left=len(header))


def catalogue_count(machine: str) -> str:
    """The number of inputs for each library and outcome."""
    record = load(machine, "catalogue")
    rows = []
    for name in LIBRARIES:
        outcomes = Counter(row[name]["outcome"] for row in record["rows"].values())
        rows.append([f"`{name}`", *(str(outcomes[outcome]) for outcome in OUTCOMES)])
    return written(record, ["library", *OUTCOMES], rows)


def _cell(judged: dict[str, str]) -> str:
    """The outcome, and an observation as code without characters of Markdown."""
    if judged["outcome"] != "wrong":
        return judged["outcome"]
    return f"wrong: `{judged['observation'].replace('`', chr(39)).replace('|', '/')}`"


def soak_table(machine: str) -> str:
    """Faults and kills of the long run, and the outcome."""
    record = load(machine, "soak")
    faults, kills, digests = record["faults"], record["kills"], record["digests"]
    end = record["ends"]["killed"]
    skipped = {k: f"{end['skipped'][k]} of {n}" for k, n in faults["skipped"].items()}
    newest = sum(kill["begins"] == kill["whole"] for kill in kills)
    writing = [kill for kill in kills if kill["writing"]]
    lost = max(kill["last"] - kill["begins"] for kill in kills)
    traces, compiled = (max(p[k] for p in record["programs"]) for k in ("traces", "compiled"))
    megabytes = np.array(record["resident"])[WARM_UP // record["every"] - 1 :] / 1e6
    rows = {
        "faulty gradients": ", ".join(f"{n} {k}" for k, n in sorted(faults["kinds"].items())),
        "matrices skipped, of those with NaN or infinity": skipped["matrices"],
        "fallback steps skipped, of those with NaN or infinity": skipped["fallback"],
        "kills": f"{len(kills)}, {len(writing)} of them during a write",
        "writes that a kill interrupted": f"{sum(kill['torn'] for kill in kills)}",
        "restarts from the newest complete checkpoint": f"{newest} of {len(kills)}",
        f"most steps lost, with a checkpoint every {record['every']} steps": f"{lost}",
        "checkpoints with the same bits as the undisturbed run": (
            f"{digests['equal']} of {digests['compared']}"
        ),
        "traces of the step per process; programs compiled after it": f"{traces}; {compiled}",
        f"memory after {WARM_UP} steps; at the end": (
            f"{megabytes[0]:.0f} MB; {megabytes[-1]:.0f} MB"
        ),
        "parameters and state": "finite" if all(end["finite"].values()) else "not finite",
    }
    header = [f"{record['steps']} steps, checkpoints by Orbax {record['orbax']}", "outcome"]
    return written(record, header, [*map(list, rows.items())])


TABLES: dict[str, Callable[[str], str]] = {
    "catalogue": catalogue_table,
    "catalogue_count": catalogue_count,
    "soak": soak_table,
}
