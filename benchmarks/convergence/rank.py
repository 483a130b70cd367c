"""Experiment (d): how the mean gradient grows with the rank, at one step size and at the best.

Quadratics of trace 1 and `f(W_0) = 1`, so L = D = 1 for every rank, without noise, β = 0.9.
"Fixed" is the step size that the theory gives for L = 1, the same for all ranks, for SGD also
the one for its own, smaller constant L_F; "tuned" is the best power of two times the first for
each rank, falling linearly to zero: at a constant step an update of fixed size cannot rest.
"""

import jax
import jax.numpy as jnp
import numpy as np

from benchmarks.convergence.problems import muon, quadratic, run, sgdm
from benchmarks.pool import run_all
from benchmarks.search import best_power
from benchmarks.store import remembered
from muon_optax import METHODS, SVD, NewtonSchulz, theory

RANKS = (8, 16, 32, 64, 128, 256)
DECAYS = (0, 1, 2)
STEPS, BETA, EVERY = 600, 0.9, 10
BY_L_F = "SGD, momentum, step by L_F"
NAMES = {
    "SVD": SVD(),
    "κ=2 q=3": NewtonSchulz("taylor2", 3),
    "Jordan q=5": METHODS["jordan"],
    "SGD, momentum": None,
    BY_L_F: None,
}


def mean_gradient(name: str, rank: int, decay: int, factor: float, falling: bool) -> float:
    """The mean nuclear norm of the gradient of one run, `factor` times the theory's step."""
    f, start = quadratic(jax.random.key(rank), rank, rank, decay), jnp.zeros((rank, rank))
    constants = theory.Problem(L=1.0, D=1.0, sigma=0.0, r=rank, T=STEPS)
    if NAMES[name] is None:
        smoothness = f.constants(start, STEPS, 1).L_F if name == BY_L_F else 1.0
        tx, eta = sgdm(BETA), (1 - BETA) ** 2 / (2 * smoothness)
    else:
        tx, eta = muon(NAMES[name], BETA), theory.best_step(constants, BETA)
    fall = 1 - np.arange(STEPS) / STEPS if falling else np.ones(STEPS)
    etas = jnp.asarray(factor * eta * fall)
    gradient = run(f, tx, etas, jax.random.key(0), STEPS, 1, start, EVERY).gradient
    return float(jnp.nanmean(gradient))


def best(name: str, rank: int, decay: int) -> dict:
    """The best power of two times the theory's step, falling to zero."""
    at = {}

    def gradient(k: int) -> float:
        at[k] = mean_gradient(name, rank, decay, 2.0**k, falling=True)
        return at[k]

    k, _ = best_power(gradient)
    return {"gradient": at[k], "factor": 2.0**k}


def compare(name: str, rank: int, decay: int, tuned: bool) -> dict:
    """One point of a curve, from memory if it was measured before."""
    what = {"method": name, "rank": rank, "decay": decay, "tuned": tuned}
    key = {"experiment": "rank", "steps": STEPS, "beta": BETA, "every": EVERY} | what

    def compute() -> dict:
        if tuned:
            return best(name, rank, decay)
        return {"gradient": mean_gradient(name, rank, decay, 1.0, False), "factor": 1.0}

    return what | remembered(key | {"of": repr(NAMES[name])}, compute)


def slopes(rows: list[dict]) -> list[dict]:
    """The log-log slope of every curve: 1/2 is the √r that the theory speaks of."""
    curves: dict[tuple, list[dict]] = {}
    for row in rows:
        curves.setdefault((row["method"], row["decay"], row["tuned"]), []).append(row)
    return [
        {"method": method, "decay": decay, "tuned": tuned, "slope": _slope(points)}
        for (method, decay, tuned), points in curves.items()
    ]


def measure(ranks: tuple[int, ...] = RANKS) -> dict:
    """Every curve; the largest ranks first, for they take longest."""
    cases = [
        (name, rank, decay, tuned)
        for rank in sorted(ranks, reverse=True)
        for tuned in (True, False)
        for decay in DECAYS
        for name in NAMES
        if not (tuned and name == BY_L_F)  # tuned, it is the SGD above
    ]
    rows = list(run_all({case: (compare, case) for case in cases}, "rank").values())
    return {"steps": STEPS, "rows": rows, "slopes": slopes(rows)}


def _slope(points: list[dict]) -> float:
    ranks, gradients = zip(*((p["rank"], p["gradient"]) for p in points))
    return float(np.polyfit(np.log(ranks), np.log(gradients), 1)[0])
