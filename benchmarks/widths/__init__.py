"""Whether Muon's best learning rate moves with the width, under every `shape_scaling`.

The byte GPT of `examples/train_gpt.py` in two layers, with more heads the wider it is. A
coordinate check: by how much ten steps at one rate change the activations at every width. Then
the best rate at every width, by powers of 2, each search from the best of the width before.
Embeddings, head and norms have Adam at one rate in all runs; in the coordinate check also none.
"""

import os
from collections.abc import Sequence
from tempfile import TemporaryDirectory
from unittest import mock

from rich.progress import track
from train_gpt import Config

from benchmarks import store
from benchmarks.record import provenance, save
from benchmarks.widths.training import (
    CHECK_STEPS,
    RATES,
    SEEDS,
    check_coordinates,
    configure,
    search,
)


def main(smoke: bool = False) -> None:
    """Both measurements, one run after another; with `smoke`, of one tiny model."""
    made_by = provenance()
    if smoke:
        tiny = [configure(16, steps=1, context=16, batch=2)]
        with TemporaryDirectory() as runs, mock.patch.dict(os.environ, {store.FOLDER: runs}):
            measure(tiny, ("jordan",))
        return
    store.COMMITS.clear()
    measured = measure([configure(width) for width in SEEDS], tuple(RATES))
    print(save("widths", made_by | {"commits": sorted(store.COMMITS)}, measured))


def measure(configs: Sequence[Config], rules: Sequence[str]) -> dict:
    """The changes of activations and the losses by rate; configurations from narrow to wide."""
    checks, searches = [], {}
    cases = [(config, rule) for config in configs for rule in rules]
    for config, rule in track(cases, "widths"):
        checks += [check_coordinates(config, rule, rest) for rest in (0.0, config.rest_lr)]
        before = searches.setdefault(rule, [])
        start, narrowest = (before[at]["power"] if before else 0 for at in (-1, 0))
        before.append(search(config, rule, start, narrowest))
    first = configs[0]
    kept = ("steps", "batch", "context", "layers", "rest_lr")
    return {
        **{name: getattr(first, name) for name in kept},
        "check_steps": CHECK_STEPS,
        "checks": checks,
        "searches": [found for of_rule in searches.values() for found in of_rule],
    }
