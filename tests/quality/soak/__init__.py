"""A long run with faulty gradients, whose process is killed again and again.

One worker trains undisturbed and saves no checkpoint. Others do the same training: each is
killed at some moment, often while it writes a checkpoint, and the next one continues from the
newest whole checkpoint. Both runs must end in the same bits.
"""

import json
import os
import signal
import subprocess
import sys
import time
from dataclasses import dataclass
from importlib.metadata import version
from itertools import pairwise
from pathlib import Path

import numpy as np

from benchmarks.record import ROOT
from tests.quality.soak.model import count_faults

WRITE_SECONDS = 0.1  # about as long as one write takes


@dataclass(frozen=True)
class Kill:
    """A kill some seconds after a step, or after the write of its checkpoint begins."""

    step: int
    in_write: bool
    seconds: float


@dataclass(frozen=True)
class Life:
    """The lines that a worker printed, and the names of the checkpoints that it left."""

    lines: list[dict]
    left: list[str]

    def summary(self, following: "Life") -> dict:
        """The last step, the checkpoints on disk, and where the next worker began."""
        saved = max(line.get("saves", 0) for line in self.lines)
        whole = max((int(name) for name in self.left if name.isdecimal()), default=0)
        torn = any(name.startswith(f"{saved}.orbax-checkpoint-tmp") for name in self.left)
        last = max(line.get("step", line.get("begins", 0)) for line in self.lines)
        begins = following.lines[0]["begins"]
        return {
            "last": last,
            "whole": whole,
            "begins": begins,
            "torn": torn,
            "writing": saved > whole,
        }

    @property
    def digests(self) -> list[tuple[int, str]]:
        """Step and hash of parameters and state: at the begin, and at every checkpoint."""
        lines = [line for line in self.lines if "digest" in line]
        return [(line.get("step", line.get("begins")), line["digest"]) for line in lines]

    @property
    def programs(self) -> dict[str, int]:
        """How often the step was traced, and how many programs were compiled after it."""
        steps = [line for line in self.lines if "traces" in line]
        return {name: steps[-1][name] if steps else 0 for name in ("traces", "compiled")}


def plan_kills(steps: int, every: int, kills: int) -> list[Kill]:
    """Random steps over the whole run, every other kill while a checkpoint is written."""
    rng = np.random.default_rng(steps)
    chosen = np.sort(rng.choice(np.arange(1, steps - every), kills, replace=False))
    return [
        Kill(int(s), i % 2 == 0, rng.uniform(0, WRITE_SECONDS)) for i, s in enumerate(chosen)
    ]


def live(folder: Path, steps: int, every: int, kill: Kill | None, save: bool = True) -> Life:
    """Run one worker to its end or its kill."""
    checkpoints = folder / "checkpoints"
    command = [sys.executable, "-m", "tests.quality.soak.worker", str(steps), str(every)]
    environment = os.environ | {
        "JAX_PLATFORMS": "cpu",
        # Later workers read what the first one compiled.
        "JAX_COMPILATION_CACHE_DIR": str(folder / "programs"),
        "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS": "0",
    }
    lines = []
    with subprocess.Popen(
        [*command, *([str(checkpoints)] if save else [])],
        cwd=ROOT,
        env=environment,
        stdout=subprocess.PIPE,
        text=True,
    ) as worker:
        for text in worker.stdout or ():
            if not text.endswith("\n"):
                break  # killed while it printed this line
            lines.append(json.loads(text))
            reached = lines[-1].get("saves" if kill and kill.in_write else "step", 0)
            if kill and reached >= kill.step:
                if kill.in_write:  # the worker prints the line before it begins to write
                    while worker.poll() is None and not any(checkpoints.glob(f"{reached}*")):
                        time.sleep(0.001)
                time.sleep(kill.seconds)
                worker.kill()
                kill = None
    if worker.returncode not in (0, -signal.SIGKILL):
        raise subprocess.CalledProcessError(worker.returncode, worker.args)
    return Life(lines, [path.name for path in checkpoints.glob("*")])


def soak(folder: Path, steps: int, every: int, kills: list[Kill]) -> dict:
    """Do both runs, with a checkpoint after every `every` steps, and compare them."""
    clock = [time.perf_counter()]
    alone = live(folder, steps, every, None, save=False)
    clock.append(time.perf_counter())
    lives = [live(folder, steps, every, kill) for kill in (*kills, None)]
    clock.append(time.perf_counter())
    expected = dict(alone.digests)
    equal = [expected[step] == digest for life in lives for step, digest in life.digests]
    losses = np.array([line["loss"] for line in alone.lines if "loss" in line])
    return {
        "steps": steps,
        "every": every,
        "orbax": version("orbax-checkpoint"),
        "seconds": dict(zip(("alone", "killed"), np.diff(clock).round(1).tolist())),
        "faults": count_faults(steps),
        "kills": [life.summary(following) for life, following in pairwise(lives)],
        "digests": {"compared": len(equal), "equal": sum(equal)},
        "ends": {"alone": alone.lines[-1], "killed": lives[-1].lines[-1]},
        "programs": [life.programs for life in (alone, *lives)],
        "loss": [round(float(part.mean()), 4) for part in np.array_split(losses, 20)],
        "highest_loss": round(float(losses.max()), 4),
        "resident": [line["resident"] for line in alone.lines if "resident" in line],
    }
