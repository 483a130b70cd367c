"""Experiment (j): as many steps as each leaf needs, on the track's GPT.

One run records the spectra of every leaf. `plan` finds the fewest steps of a family whose
update has a wanted cosine with the exact polar factor, leaf by leaf. Runs with these methods
stand next to runs with one method everywhere, seed by seed, at the track's settings of Muon.
"""

from collections import defaultdict
from collections.abc import Callable, Mapping
from typing import Any

import jax
import numpy as np
import optax

from benchmarks.pool import run_all
from benchmarks.store import remembered
from benchmarks.track import entry
from benchmarks.track.task import Task
from benchmarks.track.tasks import task
from muon_optax import diagnostics, muon, plan, theory

TASK, SEEDS, CALIBRATION = "gpt", range(8), 100
EXACT = "svd"
EVERYWHERE = (
    *("polar_express:8", "polar_express:5", "polar_express:4", "fast"),
    *(f"jordan:{steps}" for steps in (5, 4, 3, 2)),
    *("taylor4:5", "taylor4:3", "taylor2:5", "taylor2:3"),
)
BY_LEAF = {"jordan": (0.85, 0.9, 0.95), "polar_express": (0.9, 0.95, 0.98)}  # cosines
Methods = Mapping[str, str]  # a leaf's path, or ".*", → a method's name
Spectra = Mapping[str, list[np.ndarray]]


def optimizer(methods: Methods, every: int | None = None) -> optax.GradientTransformation:
    """The track's chain at the settings of its entry `muon`, which a search found."""
    settings, steps = entry.find("muon").start, task(TASK).steps
    rates = [entry.schedule(rate, steps) for rate in (settings.rate, settings.rest_rate)]
    tx = muon(
        rates[0],
        methods,
        settings.momentum,
        settings.decay,
        record_every=every,
        fallback=optax.adam(rates[1], b2=0.95),
    )
    return optax.chain(optax.clip_by_global_norm(1.0), tx)


def make_advance(on: Task, tx: optax.GradientTransformation) -> Callable[..., Any]:
    """From one evaluation to the next, compiled once."""

    def step(carry: Any, batch: Any) -> tuple[Any, None]:
        params, state = carry
        grads = jax.grad(on.loss)(params, (), batch)
        updates, state = tx.update(grads, state, params)
        return (optax.apply_updates(params, updates), state), None

    return jax.jit(lambda carry, batches: jax.lax.scan(step, carry, batches)[0])


def train(methods: Methods) -> list[float]:
    """The test loss after the last step, seed by seed."""
    on, tx = task(TASK), optimizer(methods)
    advance, loss, found = make_advance(on, tx), jax.jit(on.loss), []
    for seed in SEEDS:
        params, _ = on.init(seed)
        batches = on.draw(np.random.default_rng(seed), on.steps)
        params, _ = advance((params, tx.init(params)), batches)
        found.append(round(float(loss(params, (), on.test)), 5))
    return found


def record_spectra() -> Spectra:
    """Of every leaf at every evaluation of a run with the default method."""
    on = task(TASK)
    tx, rng = optimizer({".*": "jordan"}, on.eval_every), np.random.default_rng(CALIBRATION)
    advance, params = make_advance(on, tx), on.init(CALIBRATION)[0]
    carry, spectra = (params, tx.init(params)), defaultdict(list)
    for _ in range(on.steps // on.eval_every):
        carry = advance(carry, on.draw(rng, on.eval_every))
        for path, of_leaf in diagnostics.spectra(*carry).items():
            spectra[path] += of_leaf
    return spectra


def choose(spectra: Spectra) -> dict[str, Methods]:
    """Every method by itself; by leaf, and the most steps of these everywhere."""
    params = task(TASK).init(0)[0]
    chosen: dict[str, Methods] = {name: {".*": name} for name in (EXACT, *EVERYWHERE)}
    for family, cosines in BY_LEAF.items():
        for cosine in cosines:
            table = plan(params, method=family, spectra=spectra, cosine=cosine)
            steps = {path: len(method.schedule) for path, method in table.methods.items()}
            of_leaf = {path: f"{family}:{count}" for path, count in steps.items()}
            most = f"{family}:{max(steps.values())}"
            chosen |= {f"{family} by leaf, {cosine}": of_leaf, most: {".*": most}}
    return chosen


def describe(methods: Methods, spectra: Spectra) -> dict:
    """Cost, and the worst factor and the mean cosine over leaves and records."""
    if methods == {".*": EXACT}:
        return {"products": None, "flops": None, "factor": 1.0, "cosine": 1.0}
    params = task(TASK).init(0)[0]
    leaves = [leaf for leaf in plan(params, method=methods).leaves if leaf.method]
    pairs = [(leaf.method, sigma) for leaf in leaves for sigma in spectra[leaf.path]]
    return {
        "products": float(np.mean([theory.products(leaf.method) for leaf in leaves])),
        "flops": sum(leaf.flops for leaf in leaves),
        "factor": max(theory.certificate(m, spectrum=x).factor for m, x in pairs),
        "cosine": float(np.mean([theory.cosine(m, x) for m, x in pairs])),
    }


def measure() -> dict:
    """Every choice of methods: its cost, its distance from the exact factor, its losses."""
    spectra = record_spectra()
    chosen = choose(spectra)
    losses = run_all({name: (_trained, (of,)) for name, of in chosen.items()}, "leaves")
    rows = {
        name: {"methods": methods, **describe(methods, spectra), "loss": losses[name]}
        for name, methods in chosen.items()
    }
    return {"steps": task(TASK).steps, "seeds": len(SEEDS), "rows": rows}


def _trained(methods: Methods) -> list[float]:
    key = {"experiment": "leaves", "methods": dict(methods), "seeds": len(SEEDS)}
    key |= {"version": entry.version("muon"), "data": task(TASK).fingerprint()}
    return remembered(key, lambda: train(methods))
