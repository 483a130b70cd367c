"""Experiment (e): every bound next to what it bounds, on problems of known constants."""

import jax
import jax.numpy as jnp
import numpy as np

from benchmarks.convergence.methods import Normalized
from benchmarks.convergence.problems import make, muon, run, sgdm
from benchmarks.pool import run_all
from benchmarks.store import remembered
from muon_optax import METHODS, SVD, NewtonSchulz, PolarMethod, theory

M, N, BATCH, SEEDS = 12, 16, 4, 5
HORIZONS = (500, 1000, 2000, 4000)
NAMES = {
    "SVD": SVD(),
    **{f"κ=2 q={q}": NewtonSchulz("taylor2", q) for q in (1, 2, 3, 5, 8)},
    "Jordan q=5": METHODS["jordan"],
    "Polar Express q=5": METHODS["polar_express"],
    "SGD, momentum": None,
}


def certified(name: str) -> theory.Certificate:
    """The condition-free certificate of a method; that of the SVD is exact."""
    method = NAMES[name]
    if isinstance(method, NewtonSchulz):
        return theory.certificate(method.schedule, rank=M)
    return theory.Certificate(1.0, 1.0)


def compare(where: str, name: str, steps: int) -> dict:
    """Mean gradient of every seed at the theory's step size, and the bounds on it."""
    f, start = make(where, M, N), jnp.zeros((M, N))
    p = f.constants(start, steps, BATCH)
    is_sgdm = NAMES[name] is None
    eta, beta = theory.tuned_sgdm_step(p) if is_sgdm else theory.tuned_step(p)
    tx = sgdm(beta) if is_sgdm else muon(NAMES[name], beta)
    keys = jax.random.split(jax.random.key(1), SEEDS)
    seeds = jax.vmap(lambda key: run(f, tx, eta, key, steps, BATCH, start))(keys)
    row = {"problem": where, "method": name, "T": steps, "eta": eta, "beta": beta}
    row["measured"] = np.mean(seeds.gradient, axis=1).tolist()
    if is_sgdm:
        return row | {"sgdm_bound": theory.sgdm_bound(p, eta, beta)}
    a, s = float(seeds.alignment.min()), float(seeds.operator_norm.max())
    error = float(seeds.polar_error.max())
    row |= {"alignment": a, "operator_norm": s, "polar_error": error}
    row["paper_bound"] = theory.paper_bound(p, eta, beta, error) if error < 1 else None
    row["muon_bound"] = theory.muon_bound(p, eta, beta, min(a, s), s)
    certificate = certified(name)
    row |= {"certified_alignment": certificate.alignment}
    return row | {"certified_bound": theory.muon_bound(p, eta, beta, *certificate)}


def distances(steps: int) -> dict[str, float]:
    """`‖W_T - W‖_F/‖W‖_F` on the quadratic, W that of the SVD, the same noise; q = 0 to 8."""
    f, start = make("quadratic", M, N), jnp.zeros((M, N))
    eta, beta = theory.tuned_step(f.constants(start, steps, BATCH))

    def end(method: PolarMethod) -> jax.Array:
        tx, key = muon(method, beta), jax.random.key(1)
        return run(f, tx, eta, key, steps, BATCH, start, every=steps).end

    exact = end(SVD())
    size = jnp.linalg.norm(exact)
    methods = [Normalized(), *(NewtonSchulz("taylor2", q) for q in range(1, 9))]
    return {
        f"q={q}": float(jnp.linalg.norm(end(m) - exact) / size) for q, m in enumerate(methods)
    }


def measure(horizons: tuple[int, ...] = HORIZONS) -> dict:
    """Every problem, horizon and method; and the distances at the longest horizon."""
    cases = [(w, n, t) for w in ("quadratic", "robust") for t in horizons for n in NAMES]
    calls: dict = {case: (_compared, case) for case in cases}
    calls["distances"] = (_distances, (max(horizons),))
    done = run_all(calls, "bounds", float64=True)
    distance = done.pop("distances")
    return {"seeds": SEEDS, "rows": list(done.values()), "distance_to_svd": distance}


def _compared(where: str, name: str, steps: int) -> dict:
    key = {"experiment": "bounds", "problem": where, "method": name, "T": steps}
    key |= {"of": repr(NAMES[name]), "sizes": [M, N, BATCH, SEEDS]}
    return remembered(key, lambda: compare(where, name, steps))


def _distances(steps: int) -> dict:
    key = {"experiment": "distances", "T": steps, "sizes": [M, N, BATCH]}
    return remembered(key, lambda: distances(steps))
