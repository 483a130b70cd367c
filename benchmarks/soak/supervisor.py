"""Starts the worker, kills it at seeded moments, and says what it did and left on disk."""

import json
import os
import signal
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from benchmarks.record import ROOT

WRITE = 0.1  # seconds, about as long as one takes
UNFINISHED = ".orbax-checkpoint-tmp"  # in the name of what Orbax has not written to the end


@dataclass(frozen=True)
class Kill:
    """So many seconds after a step from this one on is done, or lies on disk in part."""

    step: int
    in_write: bool
    later: float

    def is_due(self, line: dict) -> bool:
        return line.get("saves" if self.in_write else "step", 0) >= self.step


@dataclass(frozen=True)
class Life:
    """What a worker said, and what it left on disk."""

    lines: list[dict]
    killed: bool
    left: list[str]

    @property
    def last(self) -> int:
        """The last step done."""
        return max(line.get("step", line.get("begins", 0)) for line in self.lines)

    @property
    def begun(self) -> int:
        """The step of the last checkpoint that it began to write, 0 without one."""
        return max(line.get("saves", 0) for line in self.lines)

    @property
    def whole(self) -> int:
        """The step of the newest checkpoint that is whole, 0 without one."""
        return max((int(name) for name in self.left if name.isdecimal()), default=0)

    @property
    def torn(self) -> bool:
        """Whether the checkpoint that it had begun lies there in part."""
        return any(name.startswith(f"{self.begun}{UNFINISHED}") for name in self.left)

    @property
    def digests(self) -> list[tuple[int, str]]:
        """Of parameters and state, by step: where it began, and at every checkpoint."""
        said = [line for line in self.lines if "digest" in line]
        return [(line.get("step", line.get("begins")), line["digest"]) for line in said]

    @property
    def programs(self) -> dict[str, int]:
        """How often the step was traced, and how many programs were compiled after it."""
        steps = [line for line in self.lines if "traces" in line]
        return {name: steps[-1][name] if steps else 0 for name in ("traces", "compiled")}


def planned(steps: int, every: int, kills: int) -> list[Kill]:
    """Moments spread over a run, every other one while a checkpoint is written."""
    rng = np.random.default_rng(steps)
    moments = np.sort(rng.choice(np.arange(1, steps - every), kills, replace=False))
    return [
        Kill(int(step), number % 2 == 0, rng.uniform(0, WRITE))
        for number, step in enumerate(moments)
    ]


def live(folder: Path, steps: int, every: int, kill: Kill | None, keeps: bool = True) -> Life:
    """One worker, to its end; without checkpoints unless it keeps some."""
    checkpoints = folder / "checkpoints"
    command = [sys.executable, "-m", "benchmarks.soak.worker", steps, every]
    command += [checkpoints] if keeps else []
    environment = {
        "JAX_PLATFORMS": "cpu",
        # What one worker compiled serves the next.
        "JAX_COMPILATION_CACHE_DIR": str(folder / "programs"),
        "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS": "0",
    }
    pipe = {"stdout": subprocess.PIPE, "text": True}
    lines = []
    with subprocess.Popen(
        [*map(str, command)], cwd=ROOT, env=os.environ | environment, **pipe
    ) as worker:
        for text in worker.stdout or ():
            if not text.endswith("\n"):
                break  # it died while writing this
            lines.append(json.loads(text))
            if kill and kill.is_due(lines[-1]):
                if kill.in_write:
                    _wait_for_write(worker, checkpoints, lines[-1]["saves"])
                time.sleep(kill.later)
                worker.kill()
                kill = None
    if worker.returncode not in (0, -signal.SIGKILL):
        raise subprocess.CalledProcessError(worker.returncode, worker.args)
    left = [path.name for path in checkpoints.glob("*")]
    return Life(lines, worker.returncode != 0, left)


def _wait_for_write(worker: subprocess.Popen, checkpoints: Path, step: int) -> None:
    """Until something of it lies there: the worker says first that it will write."""
    while worker.poll() is None and not any(checkpoints.glob(f"{step}*")):
        time.sleep(0.001)
