"""Experiment (g): `theory.bound` next to runs with Nesterov, decay, schedules, heavy tails."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jax import Array

from benchmarks.convergence.problems import MatrixProblem, make
from benchmarks.pool import run_all
from benchmarks.store import remembered
from muon_optax import METHODS, SVD, PolarMethod, scale_by_muon, theory
from muon_optax.theory import Certificate, Momentum, Run

M, N, BATCH, SEEDS = 12, 16, 4, 5
HORIZONS = (500, 1000, 2000, 4000)
BETA, DECAY = 0.9, 0.2
PROBLEMS = ("quadratic", "robust", "heavy tails")
METHOD_NAMES = ("SVD", "Jordan")
FEATURES = ("Nesterov", "weight decay", "warm-up and cosine", "β from 0.5 to 0.95")
ALL = "all of them"
CASES = {"plain": ()} | {feature: (feature,) for feature in FEATURES} | {ALL: FEATURES}


def run_of(case: str, constants: theory.Problem) -> Run:
    """The schedules of a case; the step size is the best of a plain run without noise."""
    eta, steps = theory.best_step(constants, BETA), constants.T
    done = (np.arange(steps) + 1) / steps
    shape = np.minimum(10 * done, 1) * (1 + np.cos(np.pi * done))
    nesterov, decays, scheduled, rising = (feature in CASES[case] for feature in FEATURES)
    return Run(
        eta * (shape if scheduled else np.ones(steps)),
        Momentum(np.linspace(0.5, 0.95, steps) if rising else BETA, nesterov),
        weight_decay=DECAY if decays else 0.0,
    )


@partial(jax.jit, static_argnums=(0, 1, 2))
def simulate(
    problem: MatrixProblem,
    method: PolarMethod,
    nesterov: bool,
    etas: Array,
    betas: Array,
    decay: Array,
    key: Array,
    start: Array,
) -> tuple[Array, Array, Array]:
    """`‖g_t‖_*`, `⟨g_t, W_{t-1}⟩` and `‖W_t‖_op` of every step."""
    tx = optax.chain(
        scale_by_muon(
            method, lambda step: betas[step], nesterov=nesterov, bias_correction=False
        ),
        optax.add_decayed_weights(decay),
        optax.scale_by_learning_rate(lambda step: etas[step]),
    )

    def step(carry: tuple, key: Array) -> tuple:
        w, state = carry
        exact = jax.grad(problem.value)(w)
        updates, state = tx.update(problem.noisy_gradient(key, w, BATCH), state, w)
        after = optax.apply_updates(w, updates)
        sizes = jnp.linalg.norm(exact, "nuc"), jnp.sum(exact * w), jnp.linalg.norm(after, 2)
        return (after, state), sizes

    keys = jax.random.split(key, len(etas))
    return jax.lax.scan(step, (start, tx.init(start)), keys)[1]


def compare(
    where: str, name: str, case: str, steps: int, size: tuple[int, int] = (M, N)
) -> dict:
    """What the bound bounds, of every seed; the bound; and how much of the ball is reached."""
    problem, start = make(where, *size), jnp.zeros(size)
    method, certificate = SVD(), Certificate(1.0, 1.0)
    if name == "Jordan":
        method = METHODS["jordan"]
        certificate = theory.certificate("jordan", rank=min(size))
    constants = problem.constants(start, steps, BATCH)
    run = run_of(case, constants)
    etas, betas = run.etas(steps), run.momentum.betas(steps)
    of_seed = partial(simulate, problem, method, run.momentum.nesterov, etas, betas)
    keys = jax.random.split(jax.random.key(1), SEEDS)
    seeds = jax.vmap(lambda key: of_seed(run.weight_decay, key, start))(keys)
    gradient, inner, norm = map(np.asarray, seeds)
    measure = gradient + run.weight_decay / certificate.alignment * inner
    return {
        "problem": where,
        "method": name,
        "case": case,
        "T": steps,
        "measured": ((measure * etas).sum(1) / etas.sum()).tolist(),
        "bound": theory.bound(constants, run, certificate).total,
        "reached": float((norm / run.radii(steps, certificate.operator_norm)[1:]).max()),
    }


def measure(horizons: tuple[int, ...] = HORIZONS) -> dict:
    """Every problem, method, case and horizon."""
    cases = [
        (where, name, case, steps)
        for where in PROBLEMS
        for name in METHOD_NAMES
        for case in CASES
        for steps in horizons
    ]
    done = run_all({case: (_compared, case) for case in cases}, "features", float64=True)
    return {"seeds": SEEDS, "decay": DECAY, "rows": list(done.values())}


def _compared(where: str, name: str, case: str, steps: int) -> dict:
    key = {"experiment": "features", "problem": where, "method": name, "case": case, "T": steps}
    key |= {"sizes": [M, N, BATCH, SEEDS], "beta": BETA, "decay": DECAY}
    return remembered(key, lambda: compare(where, name, case, steps))
