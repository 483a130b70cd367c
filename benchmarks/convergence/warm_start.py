"""Experiment (k): whether the polar step can start from the last step's inverse root.

As arXiv 2606.16371 proposes; on the track's GPT, also with a larger batch or width. A start is
valid if `‖1 - R‖_op < 1`; else its two small products are lost. The count favors it: the root
is exact, or exactly damped, norms are known, and the stages that follow are chosen for each
matrix, knowing the end. The control is a cold start whose stages are chosen likewise.
"""

from collections.abc import Iterator
from functools import partial
from typing import Any

import jax
import numpy as np
import optax

from benchmarks.convergence import starts
from benchmarks.pool import run_all
from benchmarks.store import remembered
from benchmarks.track import entry, gpt, texts
from muon_optax import NewtonSchulz
from muon_optax._operations import count_products
from muon_optax.theory import scalar_map
from muon_optax.transforms._momentum import accumulate_momentum

SIZES = ((64, 8), (64, 64), (256, 8))  # width, and windows of 64 bytes in a batch
BETAS, BUDGET, DEPTHS = (0.95, 0.99), 400, (20, 80, 160, 300)
DAMPINGS, KINDS = (0.0, 1e-3, 1e-2, 1e-1), ("cold", "warm", "control")
CASES = {
    f"{family}, {accuracy.__name__}": (family, accuracy)
    for family in ("jordan", "polar_express")
    for accuracy in (starts.residual, starts.factor)
}
Pair = tuple[np.ndarray, np.ndarray]


def pairs(width: int, batch: int, beta: float) -> Iterator[tuple[bool, int, Pair]]:
    """With Nesterov's blend or without, and the step: every matrix, a step before and now."""
    size, muon = gpt.Size(width=width, batch=batch), entry.find("muon")
    tx = entry.optimizer(muon, muon.start._replace(momentum=beta), BUDGET)
    clip = optax.clip_by_global_norm(1.0)
    blends = {
        n: optax.chain(clip, accumulate_momentum(beta, nesterov=n)) for n in (True, False)
    }

    @jax.jit
    def step(params, state, states, tokens):
        grads = jax.grad(partial(gpt.loss, size))(params, tokens)
        updates, state = tx.update(grads, state, params)
        found = {n: blend.update(grads, states[n]) for n, blend in blends.items()}
        return optax.apply_updates(params, updates), state, found

    params, rng = gpt.init(size, jax.random.key(0)), np.random.default_rng(0)
    state, found = tx.init(params), {n: (None, b.init(params)) for n, b in blends.items()}
    for count in range(1, max(DEPTHS) + 1):
        last, states = found, {n: of[1] for n, of in found.items()}
        (tokens,) = gpt.draw(size, texts.code()["train"], rng, 1)
        params, state, found = step(params, state, states, tokens)
        for n in blends if count in DEPTHS else ():
            yield from (
                (n, count, p) for p in zip(_matrices(last[n][0]), _matrices(found[n][0]))
            )


def _matrices(tree: Any) -> list[np.ndarray]:
    blocks = {name: block for name, block in tree.items() if name.startswith("block")}
    return [np.asarray(leaf) for leaf in jax.tree.leaves(blocks)]


def judge(pair: Pair) -> list[dict]:
    """For every damping: where the start leads; of every case the counts of `KINDS`."""
    shape, (before, m) = pair[0].shape, [starts.decompose(x) for x in pair]
    cold, warm = starts.cold(m), [starts.warm(before, m, damping) for damping in DAMPINGS]
    rows: list[dict] = [start.described() | {"counts": []} for start in warm]
    for family, accuracy in CASES.values():
        method = NewtonSchulz(family, starts.STEPS)
        plan = count_products(method.schedule, method.plan(*shape).segments)
        limit = accuracy(scalar_map(method.schedule, cold.sigma), cold.weights)
        find = partial(starts.cheapest, accuracy, limit, starts.schedules(family), shape)
        control = find(cold, starts.cold_products) or plan
        refreshed = plan[0], plan[1] + 2
        for start, row in zip(warm, rows):
            found = row["residual"] < 1 and find(start, starts.warm_products)
            used = min(found or refreshed, refreshed, key=partial(starts.flops, shape))
            counts = [[*p, starts.flops(shape, p)] for p in (plan, used, control)]
            row["counts"].append(counts)
    return rows


def summarize(rows: list[dict]) -> dict:
    """Of many matrices: the valid share, spreads, and by case the work in the mean."""
    counts = np.array([row["counts"] for row in rows], float)
    valid = np.array([row["residual"] < 1 for row in rows])
    summary = {"matrices": len(rows), "valid": float(valid.mean())}
    for name in ("residual", "alignment", "distance"):
        summary[name] = np.quantile([row[name] for row in rows], (0, 0.5, 1)).tolist()
    for kept, chosen in (("all", counts), ("if valid", counts[valid])):
        means = chosen.mean(0).tolist() if len(chosen) else ()
        summary[kept] = {case: dict(zip(KINDS, of)) for case, of in zip(CASES, means)}
    steps = np.array([row["step"] for row in rows])
    return summary | {"valid by step": [float(valid[steps == step].mean()) for step in DEPTHS]}


def measure_run(width: int, batch: int, beta: float) -> list[dict]:
    """A row for every blend and damping, over all matrices and depths."""
    found: dict[tuple[bool, float], list[dict]] = {}
    for nesterov, step, pair in pairs(width, batch, beta):
        for damping, row in zip(DAMPINGS, judge(pair)):
            found.setdefault((nesterov, damping), []).append(row | {"step": step})
    run, names = {"width": width, "batch": batch, "beta": beta}, ("nesterov", "damping")
    return [run | dict(zip(names, key)) | summarize(rows) for key, rows in found.items()]


def measure() -> dict:
    """Every size and β."""
    runs = [(*size, beta) for size in SIZES for beta in BETAS]
    done = run_all({run: (_measured, run) for run in reversed(runs)}, "warm start")
    kept = {"depths": DEPTHS, "dampings": DAMPINGS, "counts": ["large", "small", "operations"]}
    return kept | {"rows": [row for run in runs for row in done[run]]}


def _measured(*run: float) -> list[dict]:
    key = {"experiment": "warm_start", "run": run, "of": [BUDGET, DEPTHS, DAMPINGS, [*CASES]]}
    return remembered(key, partial(measure_run, *run))
