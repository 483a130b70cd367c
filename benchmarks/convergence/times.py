"""Experiment (b): what a training step costs under each method, one core, all taking turns."""

import statistics
from itertools import pairwise

from curves import Curve
from train_gpt import Config, Run

from benchmarks.convergence.causes import BYTE_GPT
from benchmarks.convergence.training import BASELINES, METHODS_BY_NAME, SMALL, optimizer, texts
from benchmarks.pool import run_all
from muon_optax import METHODS

TIMED = {
    "small": (SMALL, ("SVD", "Jordan q=5", "κ=2 q=1", "κ=2 q=3", "κ=2 q=5", "q=0", *BASELINES)),
    "byte GPT": (BYTE_GPT, ("SVD", "Jordan q=5", "κ=2 q=3", "κ=2 q=5", "Polar Express q=8")),
}
RECORDING = "Jordan q=5, recording"  # armed, but never due after the first step
ROUNDS = 5


def seconds_per_step(config: Config, names: tuple[str, ...], rounds: int) -> dict:
    """Method → smallest, median and largest seconds of a step, over rounds of some steps."""
    text, held_out = texts(config)
    runs = {}
    for name in (*names, RECORDING):
        if name == RECORDING:
            tx = optimizer(config, METHODS["jordan"], 1e-3, record_every=2**30)
        else:
            tx = optimizer(config, METHODS_BY_NAME.get(name, name), 1e-3)
        runs[name] = Run(config, tx, Curve(name, 1e-3, 0), text)
    for _ in range(rounds + 1):
        for run in runs.values():
            run.advance(held_out)
    times = {}
    for name, run in runs.items():
        ends = run.curve.seconds  # the first round is a warm-up
        spent = [(b - a) / config.eval_every for a, b in pairwise(ends)]
        times[name] = [min(spent), statistics.median(spent), max(spent)]
    return times


def measure(rounds: int = ROUNDS) -> dict:
    """Both models, one after the other in one worker."""
    return {
        model: run_all({0: (seconds_per_step, (*what, rounds))}, f"times, {model}")[0]
        for model, what in TIMED.items()
    }
