"""The weight that each gradient of a run has in the momentum, and what follows from it."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

# A number for all steps, one number per step, or a function of the step's index from 0.
Values = float | Sequence[float] | NDArray | Callable[[int], float]


def values_at(name: str, values: Values, steps: int) -> NDArray:
    """Return one float64 for every step."""
    if callable(values):
        values = [float(values(step)) for step in range(steps)]
    found = np.asarray(values, np.float64)
    if found.ndim == 0:
        return np.full(steps, found)
    if found.shape != (steps,):
        raise ValueError(f"{name} has shape {found.shape}; use a number or {steps} of them")
    return found


@dataclass(frozen=True, eq=False)  # it may hold arrays
class Momentum:
    """The momentum `N_t = β_t·N_{t-1} + (1-β_t)·G_t = Σ_k c_{t,k}·G_k`, from `N_0 = 0`.

    Nesterov's momentum is `β_t·N_t + (1-β_t)·G_t`. The methods return the three parts of the
    error `N_t - ∇f(W_{t-1})`. If β is a number, they add up infinitely many steps, which bounds
    the sums of any run. For the exact sums of a short run, pass `[beta] * T`. Without
    Nesterov's momentum, bias correction does not change the update.

    Attributes:
      beta: β in [0, 1): a number, one number per step, or a function of the step's index.
      nesterov: Whether to use Nesterov's momentum.

    Raises:
      ValueError: When a method is called, if β is not in [0, 1).

    Example:
      >>> plain, nesterov = Momentum(0.95), Momentum(0.95, nesterov=True)
      >>> round(float(nesterov.moments(2, 1)[0] / plain.moments(2, 1)[0]), 3)  # variance
      1.185
      >>> [round(float(m.lags([1.0])[0]), 2) for m in (plain, nesterov)]  # steps behind
      [19.0, 18.05]

    Source: docs/theory.md, section 4; proof in docs/proofs_training.md, 4.2 to 4.4.
    """

    beta: Values
    nesterov: bool = False

    def betas(self, steps: int) -> NDArray:
        """Return β of every step."""
        beta = values_at("beta", self.beta, steps)
        if not ((beta >= 0) & (beta < 1)).all():
            raise ValueError(f"beta={self.beta!r:.60}; use β in [0, 1)")
        return beta

    @property
    def is_constant(self) -> bool:
        """Whether β is one number."""
        return not callable(self.beta) and np.ndim(self.beta) == 0

    def missing(self, steps: int) -> NDArray:
        """Return `1 - Σ_k c_{t,k}` at every step, the weight that is missing at the start.

        If β is a number, the last entry is the sum over this and all later steps.
        """
        beta = self.betas(steps)
        found = np.cumprod(beta)
        if self.is_constant:
            found[-1] /= 1 - beta[-1]
        return found * beta if self.nesterov else found

    def lags(self, lengths: Sequence[float] | NDArray) -> NDArray:
        """Return how far W moved since its gradients, on average; step j moves `lengths[j]`."""
        beta = self.betas(len(lengths))
        behind = beta[0] / (1 - beta[0]) * lengths[0] if self.is_constant else 0.0
        found = [behind]
        for b, length in zip(beta[1:], lengths):
            behind = b * (behind + length)
            found.append(behind)
        return np.array(found) * (beta if self.nesterov else 1)

    def moments(self, p: float, steps: int) -> NDArray:
        """Return `Σ_k c_{t,k}^p` at every step, for 1 < p ≤ 2; p = 2 gives the variance."""
        beta, found = self.betas(steps), []
        total = (1 - beta[0]) ** p / (1 - beta[0] ** p) if self.is_constant else 0.0
        for b in beta:
            former = b**p * total
            total = former + (1 - b) ** p
            found.append(b**p * former + (1 - b * b) ** p if self.nesterov else total)
        return np.array(found)
