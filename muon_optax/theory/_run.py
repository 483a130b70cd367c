"""A bound for Muon in practice: Nesterov's momentum, decay, schedules, heavy-tailed noise."""

import math
from dataclasses import dataclass, replace
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from muon_optax._checks import check_number
from muon_optax.theory._alignment import Certificate
from muon_optax.theory._momentum import Momentum, Values, values_at
from muon_optax.theory._problem import Problem, check_update

EXACT = Certificate(1.0, 1.0)  # the certificate of the exact polar factor


@dataclass(frozen=True, eq=False)  # it may hold arrays
class Run:
    """The settings of a run of Muon, `W_t = W_{t-1} - η_t·(O_t + λ·W_{t-1})`.

    Attributes:
      eta: η, the learning rate times the shape factor. A number, one number per step, or a
        function of the step's index from 0, such as a schedule of Optax.
      momentum: The `Momentum`; a number means β without Nesterov's momentum.
      weight_decay: λ ≥ 0 with `η_t·λ ≤ 1`: `muon`'s weight decay divided by the shape factor.
      radius: `‖W_0‖_op`; it matters only with weight decay.

    Example:
      >>> Run(eta=0.1, momentum=0.9).momentum
      Momentum(beta=0.9, nesterov=False)
    """

    eta: Values
    momentum: Momentum
    weight_decay: float = 0.0
    radius: float = 0.0

    def __post_init__(self):
        if not isinstance(self.momentum, Momentum):
            object.__setattr__(self, "momentum", Momentum(self.momentum))
        for name in ("weight_decay", "radius"):
            check_number(name, getattr(self, name), "a number ≥ 0", lambda x: x >= 0)

    @property
    def is_constant(self) -> bool:
        """Whether all steps are equal: constant η and β, no weight decay."""
        constant = not callable(self.eta) and np.ndim(self.eta) == 0
        return constant and self.momentum.is_constant and self.weight_decay == 0

    def etas(self, steps: int) -> NDArray:
        """Return η of every step."""
        eta = values_at("eta", self.eta, steps)
        if not ((eta > 0).any() and (eta >= 0).all() and np.isfinite(eta).all()):
            raise ValueError(f"eta={self.eta!r:.60}; use numbers ≥ 0, not all 0")
        if (eta * self.weight_decay > 1).any():
            raise ValueError(
                f"weight_decay={self.weight_decay}; use at most 1/η, for the largest η"
            )
        return eta

    def radii(self, steps: int, operator_norm: float = 1.0) -> NDArray:
        """Return a bound on `‖W_t‖_op` before every step and after the last step."""
        radius, found = self.radius, [self.radius]
        for eta in self.etas(steps):
            radius = (1 - eta * self.weight_decay) * radius + eta * operator_norm
            found.append(radius)
        return np.array(found)


class Bound(NamedTuple):
    """The parts of a bound, in units of the gradient's nuclear norm; see `bound`.

    Attributes:
      descent: The part due to `f(W_0) - inf f`. It decreases with the number of steps.
      curvature: The part due to the length of the steps.
      drift: The part due to the momentum's gradients at earlier weights.
      noise: The part due to the noise of the gradients in the momentum.
      start: The part due to the momentum being zero at the start.
    """

    descent: float
    curvature: float
    drift: float
    noise: float
    start: float

    @property
    def total(self) -> float:
        """The bound: the sum of all parts."""
        return sum(self)


def bound(problem: Problem, run: Run, certificate: Certificate = EXACT) -> Bound:
    """A bound on Muon's mean gradient norm: schedules, weight decay, heavy-tailed noise.

    It bounds the mean over steps, with weights η_t, of `E[‖g_t‖_* + (λ/a)·⟨g_t, W_{t-1}⟩]`,
    where `g_t = ∇f(W_{t-1})`. Without decay this is the gradient's nuclear norm. With decay it
    is λ/a times the Frank–Wolfe gap of minimizing f over `‖W‖_op ≤ a/λ`, which is zero only at
    a KKT point.

    Args:
      problem: The constants. With `p < 2` the variance of the noise may be infinite.
      run: Step sizes, momentum and decay.
      certificate: The alignment a > 0 and the operator norm s that hold for every update.

    Returns:
      The parts of the bound; `.total` is their sum. The sum equals `muon_bound` if η and β are
      constant, and if there is no weight decay, Nesterov's momentum or heavy-tailed noise.

    Raises:
      ValueError: If an argument is out of its range, or if the length of a schedule is not
        `problem.T`.

    Example:
      >>> from muon_optax.coefficients import JORDAN
      >>> from muon_optax.theory import certificate
      >>> problem = Problem(L=1.0, D=1.0, sigma=0.1, r=16, T=1000)
      >>> cosine = lambda t: 0.03 * (1 + math.cos(math.pi * t / 1000))
      >>> run = Run(cosine, Momentum(0.9, nesterov=True), weight_decay=0.1)
      >>> round(bound(problem, run, certificate(JORDAN.schedule(5), rank=16)).total, 2)
      2.5

    Source: docs/theory.md, section 4; proof in docs/proofs_training.md, 4.1 to 4.3.
    """
    a, s = certificate
    check_update(0.0, a, s)
    p, steps = problem, 1 if run.is_constant else int(problem.T)
    eta = run.etas(steps)
    sizes = s + run.weight_decay * run.radii(steps, s)[:-1]  # bounds on `‖O + λ·W‖_op`

    def mean(x: NDArray) -> float:
        return float((eta * x).sum() / eta.sum())

    total = p.T * float(eta.mean())
    mismatch = (a + s) / a
    return Bound(
        descent=p.D / (a * total),
        curvature=p.L / 2 * mean(eta * sizes**2) / a,
        drift=mismatch * p.L * mean(run.momentum.lags(eta * sizes)),
        noise=mismatch * mean(p.noise(run.momentum.moments(p.p, steps))),
        start=mismatch
        * math.sqrt(2 * p.L * p.D)
        * float((eta * run.momentum.missing(steps)).sum())
        / total,
    )


def best_run(problem: Problem, run: Run, certificate: Certificate = EXACT) -> Run:
    """Scale the step sizes of a run so that its bound is smallest.

    Use it before comparing schedules by their bounds. Without decay the scale is exact. With
    decay a search finds it to a relative accuracy of 1e-6, under `η_t·λ ≤ 1`.

    Args:
      problem: The constants.
      run: The run. Only the ratios of its step sizes matter, not their magnitude.
      certificate: As for `bound`.

    Returns:
      The scaled run; `eta` is an array if it was a schedule.

    Raises:
      ValueError: As in `bound`.

    Example:
      >>> problem = Problem(L=2.0, D=1.0, sigma=0.0, r=4, T=100)
      >>> best_run(problem, Run(eta=1.0, momentum=0.0)).eta
      0.1

    Source: docs/theory.md, section 4.
    """
    steps, constant = 1 if run.is_constant else int(problem.T), run.is_constant
    plain = replace(run, weight_decay=0.0)
    eta = plain.etas(steps)
    eta = eta / eta.max()

    def scaled(run: Run, scale: float) -> Run:
        return replace(run, eta=float(scale) if constant else eta * scale)

    parts = bound(problem, scaled(plain, 1.0), certificate)
    best = math.sqrt(parts.descent / (parts.curvature + parts.drift))  # without decay
    if run.weight_decay == 0:
        return scaled(run, best)
    high = min(10 * best, 1 / run.weight_decay)
    low = high / 1e6
    while high / low > 1 + 1e-6:
        left, right = (low * (high / low) ** part for part in (1 / 3, 2 / 3))
        less = [bound(problem, scaled(run, x), certificate).total for x in (left, right)]
        low, high = (low, right) if less[0] < less[1] else (left, high)
    return scaled(run, math.sqrt(low * high))
