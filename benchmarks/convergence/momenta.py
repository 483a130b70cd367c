"""Experiment (c): ε_q, χ_q and alignment on momenta captured from training.

Momenta of every weight matrix of the byte GPT, at four steps of training with Muon. What the
theory says of a spectrum is compared with what `NewtonSchulz` does to the matrix, in float64.
"""

from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import optax
from curves import Curve
from train_gpt import Config, Run, data, make_optimizer

from benchmarks.pool import run_all
from benchmarks.store import folder, remembered
from muon_optax import MuonState, NewtonSchulz, diagnostics, theory
from muon_optax._leaves import path_name

STEPS = (10, 50, 150, 300)
CONFIG = Config(steps=300, eval_every=10)
KAPPAS, Q = (1, 2, 3, 4), 12
DEPLOYED = {"Jordan": "jordan", "Polar Express": "polar_express"}


def capture(config: Config = CONFIG, steps: tuple[int, ...] = STEPS) -> dict[str, np.ndarray]:
    """`step/leaf` → the momentum as a matrix, float32."""
    text, held_out = data(config)
    optimizer = make_optimizer(config, "muon", config.muon_lr)
    run = Run(config, optimizer, Curve("muon", config.muon_lr, 0), text)
    momenta = {}
    while not run.curve.step or run.curve.step[-1] < max(steps):
        run.advance(held_out)
        if run.curve.step[-1] in steps:
            mu = optax.tree.get(run.state, "mu", filtering=_of_muon)
            for path, m in jax.tree.leaves_with_path(mu):
                momenta[f"{run.curve.step[-1]}/{path_name(path)}"] = _matrix(np.asarray(m))
    return momenta


def captured(path: Path) -> dict[str, np.ndarray]:
    """The momenta, from the file if they were captured before."""
    if not path.exists():
        path.parent.mkdir(parents=True, exist_ok=True)
        part = path.with_suffix(".part.npz")
        np.savez(part, **capture())
        part.replace(path)  # whole or not at all
    return dict(np.load(path))


def spectrum(x: np.ndarray) -> np.ndarray:
    """Singular values over their Frobenius norm, in float64."""
    sigma = np.linalg.svd(x.astype(np.float64), compute_uv=False)
    return sigma / np.linalg.norm(sigma)


def judge(family: str, q: int, path: Path) -> dict:
    """All momenta under q steps of a family: measured, exact by theory, and bounds.

    Smallest, median and largest of each; and the largest gap between measured and exact.
    """
    method = NewtonSchulz(family, q)
    momenta = captured(path)
    rows = [_judged(method, x) for x in momenta.values()]
    rank = max(min(x.shape) for x in momenta.values())
    columns = {name: np.array([row[name] for row in rows]) for name in rows[0]}
    gap = np.abs(columns["alignment"] - columns.pop("exact_alignment")).max()
    row = {"family": family, "q": q, "alignment_gap": float(gap)}
    row["alignment_bound"] = theory.alignment_bound(method.schedule, rank)
    if "exact_error" in columns:
        gap = np.abs(columns["polar_error"] - columns["exact_error"]).max()
        row["error_gap"] = float(gap)
    with np.errstate(invalid="ignore"):  # an infinite χ
        spread = {name: np.quantile(x, (0, 0.5, 1)).tolist() for name, x in columns.items()}
    return row | spread


def measure() -> dict:
    """The spectra, and every family and q."""
    path = folder() / "momenta.npz"
    families = [f"taylor{kappa}" for kappa in KAPPAS] + list(DEPLOYED.values())
    cases = [(family, q) for family in families for q in range(1, Q + 1)]
    momenta = captured(path)
    rows = run_all({c: (_remembered, (*c, path)) for c in cases}, "momenta", float64=True)
    spectra = {
        name: [float(f"{value:.4g}") for value in spectrum(x)] for name, x in momenta.items()
    }
    return {"spectra": spectra, "rows": [_without_infinity(row) for row in rows.values()]}


def _without_infinity(row: dict) -> dict:
    """None for what is not finite, which JSON does not have."""
    return {
        name: [x if np.isfinite(x) else None for x in value]
        if isinstance(value, list)
        else value
        for name, value in row.items()
    }


def _remembered(family: str, q: int, path: Path) -> dict:
    key = {
        "experiment": "momenta",
        "family": family,
        "q": q,
        "steps": STEPS,
        "spread": "nearest",
    }
    return remembered(key, lambda: judge(family, q, path))


def _judged(method: NewtonSchulz, x: np.ndarray) -> dict[str, float]:
    m = jnp.asarray(x, jnp.float64)
    o = method.polar(m)
    sigma = spectrum(x)
    row = {
        "polar_error": float(diagnostics.polar_error(m, o)),
        "alignment": float(diagnostics.alignment(m, o)),
        "exact_alignment": theory.alignment(method.schedule, sigma),
    }
    if method.coefficients.name.startswith("taylor"):
        kappa, delta0 = int(method.coefficients.name[-1]), 1.0 - float(sigma[-1]) ** 2
        exact = 1.0 - float(theory.scalar_map(method.schedule, sigma[-1]))
        bound = theory.residual_bound(delta0, kappa, method.steps)
        row["exact_error"] = exact
        row["bound_error"] = theory.polar_error(bound)
        row["exact_factor"] = 1.0 / (1.0 - exact)
        row["bound_factor"] = theory.constant_factor(bound)
    return row


def _of_muon(path, value) -> bool:
    """Only the momentum of `MuonState`, not Adam's."""
    return getattr(path[-1], "tuple_name", "") == MuonState.__name__


def _matrix(x: np.ndarray) -> np.ndarray:
    """Attention kernels `[width, heads, head]` and `[heads, head, width]` as matrices."""
    if x.ndim == 2:
        return x
    return x.reshape(x.shape[0], -1) if x.shape[0] > x.shape[1] else x.reshape(-1, x.shape[2])
