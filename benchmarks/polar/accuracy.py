"""The error of a polar factor, in float64 by NumPy, independent of the library."""

from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True)
class Exact:
    """The thin SVD of one matrix, `u·diag(sigma)·vh`, in float64, up to its rank."""

    u: np.ndarray
    sigma: np.ndarray
    vh: np.ndarray

    @property
    def polar(self) -> np.ndarray:
        return self.u @ self.vh


def decompose(x: np.ndarray, rank: int | None = None) -> Exact:
    """Of a matrix as it was passed on, rounding and all."""
    u, sigma, vh = np.linalg.svd(x.astype(np.float64), full_matrices=False)
    return Exact(u[:, :rank], sigma[:rank], vh[:rank])


def judge(exact: Exact, o: np.ndarray) -> dict[str, float | list[float] | None]:
    """What `o: [m, n]` is for the polar factor of a matrix.

    error: ‖o − polar‖_F / ‖polar‖_F, 0 at best.
    band: smallest and largest singular value of o between the matrix's row and column space,
      both 1 at best.
    alignment: ⟨x, o⟩ / ‖x‖_*, 1 at best; what descends.
    orthogonality: the root mean square of σ² − 1 over those singular values, 0 at best.

    None for each where o is not finite.
    """
    o = o.astype(np.float64)
    if not np.isfinite(o).all():
        return dict.fromkeys(("error", "band", "alignment", "orthogonality"))
    inner = exact.u.T @ o @ exact.vh.T
    sigma = np.linalg.svd(inner, compute_uv=False)
    return {
        "error": _round(np.linalg.norm(o - exact.polar) / np.sqrt(len(sigma))),
        "band": [_round(sigma[-1]), _round(sigma[0])],
        "alignment": _round(exact.sigma @ inner.diagonal() / exact.sigma.sum()),
        "orthogonality": _round(np.sqrt(np.mean((sigma**2 - 1) ** 2))),
    }


def _round(x: float) -> float:
    return float(f"{x:.6g}")
