"""The paper's experiments and their outcomes: `python -m benchmarks convergence`.

About two hours on two cores. It can be stopped at any time: what is done is remembered in
build/benchmarks, and the next call goes on from there.
"""

import os
from collections.abc import Sequence
from dataclasses import replace
from tempfile import TemporaryDirectory
from unittest import mock

from benchmarks import store
from benchmarks.convergence import (
    bounds,
    causes,
    features,
    figures,
    leaves,
    momenta,
    nesterov,
    rank,
    spectra,
    times,
    training,
    warm_start,
)
from benchmarks.pool import run_all
from benchmarks.record import RESULTS, provenance, save
from muon_optax import METHODS

FOLDER = RESULTS / "convergence"
ALL = (training, causes, momenta, bounds, features, nesterov)
ALL += (spectra, leaves, rank, times, warm_start)
EXPERIMENTS = {module.__name__.rpartition(".")[2]: module for module in ALL}


def main(smoke: bool = False, experiments: Sequence[str] = ()) -> None:
    """Experiments, all or by name, then figures; with `smoke` two steps of training alone."""
    made_by = provenance()
    if smoke:
        with TemporaryDirectory() as runs, mock.patch.dict(os.environ, {store.FOLDER: runs}):
            return run_smallest()
    for name in experiments:
        if name not in EXPERIMENTS:
            known = ", ".join(EXPERIMENTS)
            raise ValueError(f"experiment {name!r} does not exist; use one of {known}")
    for name in experiments or EXPERIMENTS:
        store.COMMITS.clear()
        measured = EXPERIMENTS[name].measure()
        commits = {"commits": sorted(store.COMMITS)} if store.COMMITS else {}
        print(save(name, made_by | commits, measured, FOLDER))
    figures.draw(FOLDER)


def run_smallest() -> None:
    """Two steps of training, in workers; then here, from what the workers remembered."""
    small = replace(training.SMALL, width=32, layers=1, context=16, batch=2)
    config = replace(small, steps=2, eval_every=1)
    calls = {
        name: (training.train, (config, training.Job(name, 0.01, 0), method))
        for name, method in (("Jordan q=5", METHODS["jordan"]), ("AdamW", "AdamW"))
    }
    first = run_all(calls, "training")
    with mock.patch.object(training, "Run", None):  # what would train again
        assert first == {name: train(*arguments) for name, (train, arguments) in calls.items()}
