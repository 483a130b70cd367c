"""A long run with faulty gradients, whose process is killed again and again.

One worker trains undisturbed and keeps no checkpoint. Others train the same, each killed at
some moment, often while it writes one, and followed by the next, which goes on from the newest
that is whole. Both have to end in the same bits.
"""

import tempfile
import time
from importlib.metadata import version
from itertools import pairwise
from pathlib import Path

import jax
import numpy as np

from benchmarks.record import provenance, save
from benchmarks.soak.faults import count
from benchmarks.soak.supervisor import Kill, Life, live, planned


def soak(folder: Path, steps: int, every: int, plan: list[Kill]) -> dict:
    """Both runs, with a checkpoint each so many steps, and what they show."""
    clock = [time.perf_counter()]
    alone = live(folder, steps, every, None, keeps=False)
    clock.append(time.perf_counter())
    lives = [live(folder, steps, every, kill) for kill in (*plan, None)]
    clock.append(time.perf_counter())
    return {
        "steps": steps,
        "every": every,
        "orbax": version("orbax-checkpoint"),
        "seconds": dict(zip(("alone", "killed"), np.diff(clock).round(1).tolist())),
        "faults": count(steps),
        "kills": kills_of(lives),
        "digests": compare(alone, lives),
        "ends": {"alone": alone.lines[-1], "killed": lives[-1].lines[-1]},
        "programs": [life.programs for life in (alone, *lives)],
        **curves(alone),
    }


def kills_of(lives: list[Life]) -> list[dict]:
    """What each left, and where the next worker began."""
    return [
        {
            "last": life.last,
            "whole": life.whole,
            "begins": after.lines[0]["begins"],
            "writing": life.begun > life.whole,
            "torn": life.torn,
        }
        for life, after in pairwise(lives)
        if life.killed
    ]


def compare(alone: Life, lives: list[Life]) -> dict[str, int]:
    """Of all checkpoints written or read, how many have the undisturbed run's bits."""
    expected = dict(alone.digests)
    found = [pair for life in lives for pair in life.digests]
    equal = sum(expected[step] == digest for step, digest in found)
    return {"compared": len(found), "equal": equal}


def curves(alone: Life) -> dict:
    """The loss, in twentieths of the run, and the memory each so many steps."""
    losses = [line["loss"] for line in alone.lines if "loss" in line]
    twentieths = np.array_split(np.array(losses), 20)
    return {
        "loss": [round(float(part.mean()), 4) for part in twentieths],
        "highest_loss": round(float(np.max(losses)), 4),
        "resident": [line["resident"] for line in alone.lines if "resident" in line],
    }


def main(smoke: bool = False) -> dict:
    """Twenty thousand steps and two dozen kills; keep what they show.

    With `smoke`, sixty steps, and one kill as soon as a write begins.
    """
    jax.config.update("jax_platforms", "cpu")  # where the same program gives the same bits
    made_by = provenance()
    steps, every = (60, 10) if smoke else (20_000, 100)
    plan = [Kill(25, True, 0.0)] if smoke else planned(steps, every, 24)
    with tempfile.TemporaryDirectory() as folder:
        measured = soak(Path(folder), steps, every, plan)
    if not smoke:
        save("soak", made_by, measured)
    return measured
