"""The distance of a result from the polar factor, computed by NumPy in float64."""

from dataclasses import dataclass
from typing import Any

import numpy as np

NEAR = 1 / 3  # Jordan's five steps bring singular values to within this distance of 1


@dataclass(frozen=True)
class Exact:
    """The thin SVD of one matrix, `u·diag(sigma)·vh`, in float64, truncated to its rank."""

    u: np.ndarray
    sigma: np.ndarray
    vh: np.ndarray

    @property
    def polar(self) -> np.ndarray:
        return self.u @ self.vh


def decompose(x: np.ndarray, rank: int | None = None) -> Exact:
    """Return the SVD of a matrix, truncated to a rank; None means the rank of `SVD()`."""
    u, sigma, vh = np.linalg.svd(x.astype(np.float64), full_matrices=False)
    if rank is None:
        rank = int((sigma > max(x.shape) * np.finfo(np.float32).eps * sigma[0]).sum())
    return Exact(u[:, :rank], sigma[:rank], vh[:rank])


def judge(exact: Exact, o: np.ndarray) -> dict[str, Any]:
    """Return the measures of a `Judgement` of `o: [m, n]`; all are None if o is not finite."""
    o = o.astype(np.float64)
    if not np.isfinite(o).all():
        names = ("error", "band", "alignment", "orthogonality", "reached")
        return dict.fromkeys(names)
    inner = exact.u.T @ o @ exact.vh.T
    sigma = np.linalg.svd(inner, compute_uv=False)
    kept = inner.diagonal()
    return {
        "error": _round(np.linalg.norm(o - exact.polar) / np.sqrt(len(sigma))),
        "band": [_round(sigma[-1]), _round(sigma[0])],
        "alignment": _round(exact.sigma @ kept / exact.sigma.sum()),
        "orthogonality": _round(np.sqrt(np.mean((sigma**2 - 1) ** 2))),
        "reached": _round(np.mean(np.abs(kept - 1) <= NEAR)),
    }


def _round(x: Any) -> float:
    return float(f"{x:.6g}")
