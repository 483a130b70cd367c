"""Knows what verdicts add up to: a score and its interval, file by file, and who survived."""

import json
import math
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

from benchmarks.mutation.mutants import Mutant
from benchmarks.mutation.verdicts import OUTCOMES, Verdict

# (path, line before, line after) → why no test can or need kill this mutant. By its text, as
# lines move.
EQUIVALENT = {
    (known["path"], known["before"], known["after"]): known["reason"]
    for known in json.loads(Path(__file__).with_name("equivalent.json").read_text())
}


def summary(verdicts: Sequence[Verdict], population: Sequence[Mutant]) -> dict:
    """All that is kept of a run on some mutants of a population."""
    survivors = [v for v in verdicts if v.survived]
    known = [v for v in verdicts if _key(v) in EQUIVALENT]
    excused = [v for v in known if v.survived]
    killed, drawn = len(verdicts) - len(survivors), len(verdicts)
    files, outcomes = Counter(m.path for m in population), Counter()
    outcomes.update((v.mutant.path, v.outcome) for v in verdicts)
    outcomes.update((v.mutant.path, "equivalent") for v in excused)
    return {
        "mutants": len(population),
        "drawn": drawn,
        "score": killed / drawn,
        "interval": interval(killed, drawn, len(population)),
        "score_without_equivalent": killed / max(drawn - len(excused), 1),
        "seconds_each": sum(v.seconds for v in verdicts) / drawn,
        "files": {
            path: {"mutants": number}
            | {name: outcomes[path, name] for name in (*OUTCOMES, "equivalent")}
            for path, number in sorted(files.items())
        },
        "survivors": sorted(map(_described, survivors), key=lambda s: (s["path"], s["line"])),
        "equivalent_but_killed": [_described(v) for v in known if not v.survived],
    }


def interval(killed: int, drawn: int, population: int) -> tuple[float, float]:
    """Wilson's 95 % interval of a score, narrower as the sample nears the whole population."""
    score, z = killed / drawn, 1.96
    if drawn == population:
        return score, score
    n = drawn * (population - 1) / (population - drawn)
    middle = (score + z**2 / (2 * n)) / (1 + z**2 / n)
    half = z / (1 + z**2 / n) * math.sqrt(score * (1 - score) / n + z**2 / (4 * n**2))
    return middle - half, middle + half


def _key(verdict: Verdict) -> tuple[str, str, str]:
    mutant = verdict.mutant
    return mutant.path, mutant.before, mutant.after


def _described(verdict: Verdict) -> dict:
    names = ("path", "line", "operator", "before", "after")
    described = {name: getattr(verdict.mutant, name) for name in names}
    reason = EQUIVALENT.get(_key(verdict))
    return described | {"outcome": verdict.outcome} | ({"reason": reason} if reason else {})
