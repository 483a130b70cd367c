"""The constants of a problem, and the step sizes and momentum coefficients tuned to them."""

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray


@dataclass(frozen=True)
class Problem:
    """The constants in the bounds, in the paper's letters.

    Attributes:
      L: Smoothness from operator norm to nuclear norm: `‖∇f(X) - ∇f(Y)‖_* ≤ L·‖X - Y‖_op`.
      D: `f(W_0) - inf f`.
      sigma: Noise of one sample: `E‖∇f(W; ξ) - ∇f(W)‖_F^p ≤ sigma^p`; 0 without noise.
      r: The smaller dimension of the matrix, min(m, n).
      T: Number of steps.
      B: Number of samples in a batch.
      L_F: Smoothness in the Frobenius norm, for SGD: `L_F ≤ L ≤ r·L_F`. None means L.
      p: The order of the noise's finite moment, in (1, 2]. Order 2 is the variance.

    Raises:
      ValueError: If a constant is out of its range, or if L_F exceeds L.

    Example:
      >>> problem = Problem(L=1.0, D=1.0, sigma=0.1, r=16, T=1000)
      >>> problem.L_F is None
      True

    Source: Kim & Oh, arXiv 2601.19156, Section 3.2.
    """

    L: float
    D: float
    sigma: float
    r: int
    T: int
    B: int = 1
    L_F: float | None = None
    p: float = 2.0

    def __post_init__(self):
        for name in ("L", "D", "r", "T", "B"):
            if not 0 < getattr(self, name) < math.inf:
                raise ValueError(f"{name}={getattr(self, name)}; use a positive number")
        if not 0 <= self.sigma < math.inf:
            raise ValueError(f"sigma={self.sigma}; use a number ≥ 0")
        if not 1 < self.p <= 2:
            raise ValueError(f"p={self.p}; use a number in (1, 2]")
        if self.L_F is not None and not 0 < self.L_F <= self.L * (1 + 1e-9):
            raise ValueError(f"L_F={self.L_F}; use a positive number up to L={self.L}, or None")

    @property
    def frobenius_smoothness(self) -> float:
        """L_F, or L if L_F is None."""
        return self.L if self.L_F is None else self.L_F

    def noise(self, moment: ArrayLike) -> NDArray:
        """Return a bound on `E‖Σ_k c_k·ξ_k‖_*` for weights with `Σ_k c_k^p = moment`."""
        sums = 1.0 if self.p == 2 else 2.0  # see docs/proofs_training.md, 4.3
        batch = sums * np.asarray(moment, np.float64) * self.B ** (1 - self.p)
        return math.sqrt(self.r) * self.sigma * batch ** (1 / self.p)


def tuned_step(problem: Problem) -> tuple[float, float]:
    """The paper's step size η and momentum coefficient β for Muon.

    `1-β = min(√(L·D·B)/(σ·√(r·T)), 1)` and `η = √((1-β)·D/(T·L))`. They do not depend on the
    polynomial. To compare polynomials, use the `best_step` of each.

    Args:
      problem: The constants.

    Returns:
      `(η, β)`; β is 0 without noise.

    Example:
      >>> eta, beta = tuned_step(Problem(L=1.0, D=1.0, sigma=1.0, r=4, T=10_000))
      >>> round(eta, 6), round(beta, 6)
      (0.000707, 0.995)

    Source: Kim & Oh, arXiv 2601.19156, Theorem 1.
    """
    p = problem
    beta = _tuned_momentum(p.L, p.sigma * math.sqrt(p.r), p)
    return math.sqrt((1 - beta) * p.D / (p.T * p.L)), beta


def tuned_sgdm_step(problem: Problem) -> tuple[float, float]:
    """The step size η and momentum coefficient β for SGD, `W ← W - η·M`.

    `1-β = min(√(L_F·D·B)/(σ·√T), 1)` as in the paper, and `η = (1-β)²/(2·L_F)`, which is
    half the largest step size that `sgdm_bound` allows.

    Args:
      problem: The constants.

    Returns:
      `(η, β)`.

    Example:
      >>> tuned_sgdm_step(Problem(L=1.0, D=1.0, sigma=0.0, r=4, T=10_000))
      (0.5, 0.0)

    Source: Kim & Oh, arXiv 2601.19156, Theorem 3, which has η = (1-β)²/(4L).
    """
    smoothness = problem.frobenius_smoothness
    beta = _tuned_momentum(smoothness, problem.sigma, problem)
    return (1 - beta) ** 2 / (2 * smoothness), beta


def best_step(
    problem: Problem, beta: float, alignment: float = 1.0, operator_norm: float = 1.0
) -> float:
    """The step size that minimizes `muon_bound` for a given momentum.

    `η = √(D/(T·L·(s²/2 + (a+s)·β·s/(1-β))))`.

    Args:
      problem: The constants.
      beta: β in [0, 1).
      alignment: a, as in `muon_bound`.
      operator_norm: s, as in `muon_bound`.

    Returns:
      η.

    Raises:
      ValueError: If an argument is out of its range.

    Example:
      >>> best_step(Problem(L=2.0, D=1.0, sigma=0.0, r=4, T=100), beta=0.0)
      0.1
    """
    check_update(beta, alignment, operator_norm)
    a, s = alignment, operator_norm
    curvature = s * s / 2 + (a + s) * beta * s / (1 - beta)
    return math.sqrt(problem.D / (problem.T * problem.L * curvature))


def _tuned_momentum(smoothness: float, noise: float, problem: Problem) -> float:
    """Return the β with `1-β = min(√(L·D·B)/(noise·√T), 1)`."""
    if noise == 0:
        return 0.0
    signal = math.sqrt(smoothness * problem.D * problem.B)
    return 1 - min(signal / (noise * math.sqrt(problem.T)), 1.0)


def check_update(beta: float, alignment: float = 1.0, operator_norm: float = 1.0) -> None:
    """Refuse a β outside [0, 1), and an alignment outside (0, operator_norm]."""
    if not 0.0 <= beta < 1.0:
        raise ValueError(f"beta={beta}; use β in [0, 1)")
    if not 0.0 < alignment <= operator_norm * (1 + 1e-12):
        raise ValueError(
            f"alignment={alignment}, operator_norm={operator_norm}; use 0 < alignment ≤ "
            "operator_norm, as certificate(...) returns them"
        )
