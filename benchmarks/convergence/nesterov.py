"""Experiment (h): when Nesterov's step brings the momentum nearer to the gradient.

Far from the minimum of `½·‖W - S‖_F²` every step goes the same way, as in the worst case: the
gradients fall behind by `L·η` a step. After the start has decayed, the mean of `‖N_t - g_t‖_*`
is measured for the plain momentum and for Nesterov's of the same run.
"""

from functools import partial

import numpy as np

from benchmarks.pool import run_all
from benchmarks.store import remembered
from muon_optax.theory import Momentum, Problem, Run, bound

M, N = 6, 96  # noise of a wide matrix is nearly √r as large in the nuclear norm
STEPS, SEEDS = 300, 3
ETAS = np.geomspace(1e-3, 1, 13).tolist()
BETAS = (0.5, 0.6, 0.7, 0.8, 0.9, 0.95, 0.98)


def mismatch(eta: float, beta: float, seed: int) -> np.ndarray:
    """`‖N_t - g_t‖_*` in the mean, plain and Nesterov's; the noise has `E‖·‖_F² = 1`."""
    rng, begun = np.random.default_rng(seed), int(12 / (1 - beta))
    gradient = -(10 + 2 * eta * (begun + STEPS)) * np.eye(M, N)
    plain, total = gradient, np.zeros(2)
    for step in range(begun + STEPS):
        noisy = gradient + rng.standard_normal((M, N)) / np.sqrt(M * N)
        plain = beta * plain + (1 - beta) * noisy
        nesterov = beta * plain + (1 - beta) * noisy
        if step >= begun:
            total += [np.linalg.norm(x - gradient, "nuc") for x in (plain, nesterov)]
        u, _, v = np.linalg.svd(plain, full_matrices=False)
        gradient = gradient - eta * u @ v
    return total / STEPS


def compare(eta: float, beta: float) -> dict:
    """Measured and bounded, plain and Nesterov's."""
    problem = Problem(L=M, D=1.0, sigma=1.0, r=M, T=1)
    parts = [bound(problem, Run(eta, Momentum(beta, nesterov))) for nesterov in (False, True)]
    measured = np.mean([mismatch(eta, beta, seed) for seed in range(SEEDS)], axis=0)
    # The bound has the mismatch (a + s)/a = 2 times.
    bounded = [(of.drift + of.noise) / 2 for of in parts]
    return {"eta": eta, "beta": beta, "measured": measured.tolist(), "bound": bounded}


def agrees(row: dict) -> bool:
    """Whether the bound has the sign of what Nesterov's step changes."""
    (plain, nesterov), (plain_bound, nesterov_bound) = row["measured"], row["bound"]
    return (nesterov < plain) == (nesterov_bound < plain_bound)


def measure() -> dict:
    """Every η and β."""
    calls: dict = {(eta, beta): (_compared, (eta, beta)) for beta in BETAS for eta in ETAS}
    return {"seeds": SEEDS, "rows": list(run_all(calls, "nesterov").values())}


def _compared(eta: float, beta: float) -> dict:
    key = {"experiment": "nesterov", "eta": eta, "beta": beta, "of": [M, N, STEPS, SEEDS]}
    return remembered(key, partial(compare, eta, beta))
