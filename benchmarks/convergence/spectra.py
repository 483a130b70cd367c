"""Experiment (i): the spectra of the momentum by layer, width and depth of training.

The byte GPT of `examples/train_gpt.py` with four layers, at four widths, under Muon as it is by
default. σ/‖M‖_F is nearly what Newton-Schulz sees: Nesterov's blend is left out. Power laws in
the width are fitted by leaf.
"""

from collections.abc import Iterator
from dataclasses import replace

import numpy as np
from corpus import windows
from train_gpt import schedule

from benchmarks.pool import run_all
from benchmarks.store import remembered
from benchmarks.widths.tables import slope
from benchmarks.widths.training import (
    configure,
    initialize,
    make_step,
    optimizer,
    plain,
    texts,
)
from muon_optax import diagnostics, theory

WIDTHS, LAYERS, DEPTHS = (64, 128, 256, 512), 4, (10, 40, 80, 160)
RATE, QUANTILES = 0.04, (0.1, 0.5, 0.9)
FACTOR, FAMILY = 1.1, "polar_express"


def momenta(width: int) -> Iterator[tuple[int, dict[str, tuple[np.ndarray, ...]]]]:
    """The steps of `DEPTHS`, and the singular values of every leaf there."""
    config = replace(configure(width, steps=max(DEPTHS)), layers=LAYERS)
    step, params = make_step(config, "jordan"), initialize(config, 0)
    state, rng = optimizer("jordan", 0.0, 0.0).init(params), np.random.default_rng(0)
    rates = [schedule(config, rate) for rate in (RATE, config.rest_lr)]
    for count in range(1, max(DEPTHS) + 1):
        tokens = windows(texts(config)[0], rng, config.batch, config.context + 1)
        params, state = step(params, state, tokens, *(rate(count - 1) for rate in rates))
        if count in DEPTHS:
            yield count, diagnostics.spectra(params, state)


def measure_width(width: int) -> list[dict]:
    """Of every leaf at every depth: quantiles, and the steps that its matrices need."""
    rows = []
    for step, spectra in momenta(width):
        for path, of_leaf in spectra.items():
            x = np.concatenate([sigma / np.linalg.norm(sigma) for sigma in of_leaf])
            steps = [theory.steps_for(FACTOR, FAMILY, spectrum=sigma) for sigma in of_leaf]
            rows.append(
                {
                    "width": width,
                    "step": step,
                    "leaf": path,
                    "quantiles": np.quantile(x, QUANTILES).tolist(),
                    "jordan": max(theory.certificate("jordan", spectrum=s)[0] for s in of_leaf),
                    "steps": None if None in steps else max(steps),
                }
            )
    return rows


def split(leaf: str) -> tuple[int, str]:
    """The layer from 1, and the kind, of `blocks/0/attention/key/kernel`."""
    _, layer, *kind, _ = leaf.split("/")
    return int(layer) + 1, kind[-1]


def exponent(rows: list[dict], leaf: str, step: int, quantile: int) -> float:
    """P of `quantile ∝ width^p`, by least squares of the logarithms."""
    found = [row for row in rows if (row["leaf"], row["step"]) == (leaf, step)]
    widths = [row["width"] for row in found]
    values = [row["quantiles"][quantile] for row in found]
    return slope(widths, values)


def measure() -> dict:
    """Every width."""
    calls: dict = {width: (_measured, (width,)) for width in reversed(WIDTHS)}
    done = run_all(calls, "spectra")
    rows = [row for width in WIDTHS for row in done[width]]
    kept = {"quantiles": QUANTILES, "depths": DEPTHS, "factor": FACTOR, "family": FAMILY}
    return kept | {"rows": rows}


def _measured(width: int) -> list[dict]:
    config = plain(configure(width, steps=max(DEPTHS))) | {"layers": LAYERS}
    key = {"experiment": "spectra", "of": config, "rate": RATE, "depths": DEPTHS}
    key |= {"quantiles": QUANTILES, "factor": FACTOR, "family": FAMILY}
    return remembered(key, lambda: measure_width(width))
