"""Matrices for polar methods, made with a given spectrum or captured from training."""

from collections.abc import Callable
from functools import partial
from pathlib import Path

import ml_dtypes  # noqa: F401 (NumPy's bfloat16)
import numpy as np

CAPTURED = Path(__file__).parent / "momenta.npz"  # benchmarks/polar/capture.py made it
SPIKES = 16

Maker = Callable[[int, int, int, np.random.Generator], np.ndarray]


def make(spectrum: str, count: int, m: int, n: int, dtype: str, seed: int = 0) -> np.ndarray:
    """`[count, m, n]` of a dtype, made in float64 and then rounded; not all zeros."""
    x = SPECTRA[spectrum](count, m, n, np.random.default_rng(seed))
    return refuse_zeros(x.astype(dtype))


def refuse_zeros(x: np.ndarray) -> np.ndarray:
    """The matrices, unless one is all zeros: a benchmark of nothing is fast and right."""
    if x.size == 0 or not x.any(axis=(-2, -1)).all():
        raise ValueError(f"a matrix of {x.shape} is all zeros; measure on one that is not")
    return x


def rank(spectrum: str, m: int, n: int) -> int:
    """How many singular values a matrix was made with; rounding may add tiny ones."""
    return min(m, n) // 2 if spectrum == "half rank" else min(m, n)


def gaussian(count: int, m: int, n: int, rng: np.random.Generator) -> np.ndarray:
    return rng.standard_normal((count, m, n))


def with_values(sigma: np.ndarray, count: int, m: int, n: int, rng) -> np.ndarray:
    """Of these singular values, the vectors uniformly random."""
    r = len(sigma)
    u, v = (np.linalg.qr(rng.standard_normal((count, side, r)))[0] for side in (m, n))
    return (u * sigma) @ v.mT


def power_law(exponent: float, count: int, m: int, n: int, rng) -> np.ndarray:
    sigma = np.arange(1.0, min(m, n) + 1) ** -exponent
    return with_values(sigma, count, m, n, rng)


def spiked(count: int, m: int, n: int, rng: np.random.Generator) -> np.ndarray:
    """A few directions ten times the noise and more, as a momentum has early in training."""
    noise = gaussian(count, m, n, rng) / (np.sqrt(m) + np.sqrt(n))  # largest near 1
    spikes = np.linspace(100.0, 10.0, min(SPIKES, m, n))
    return noise + with_values(spikes, count, m, n, rng)


def half_rank(count: int, m: int, n: int, rng: np.random.Generator) -> np.ndarray:
    r = rank("half rank", m, n)
    return gaussian(count, m, r, rng) @ gaussian(count, r, n, rng)


def clustered(count: int, m: int, n: int, rng: np.random.Generator) -> np.ndarray:
    """A quarter of the values at each of 1, 1/10, 1/100 and 1/1000."""
    decade = np.arange(min(m, n)) * 4 // min(m, n)
    return with_values(10.0**-decade, count, m, n, rng)


def captured(count: int, m: int, n: int, rng: np.random.Generator) -> np.ndarray:
    """Momenta of a training run; at another shape, random matrices of such a spectrum."""
    momenta = np.load(CAPTURED)["momenta"].astype(np.float64)
    if momenta.shape[1:] == (m, n):
        return momenta[np.arange(count) % len(momenta)]
    sigma = np.linalg.svd(momenta[0], compute_uv=False)
    ranks = np.linspace(0.0, 1.0, min(m, n))
    resampled = np.exp(np.interp(ranks, np.linspace(0.0, 1.0, len(sigma)), np.log(sigma)))
    return with_values(resampled, count, m, n, rng)


SPECTRA: dict[str, Maker] = {
    "gaussian": gaussian,
    "momenta": captured,
    "power 1/2": partial(power_law, 0.5),
    "power 1": partial(power_law, 1.0),
    "power 2": partial(power_law, 2.0),
    "spikes": spiked,
    "half rank": half_rank,
    "clustered": clustered,
}
