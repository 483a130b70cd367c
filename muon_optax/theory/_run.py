"""One bound for the Muon that people run: Nesterov, decay, schedules, heavy tails."""

import math
from dataclasses import dataclass, replace
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from muon_optax._checks import check_number
from muon_optax.theory._alignment import Certificate
from muon_optax.theory._momentum import Momentum, Values, values_at
from muon_optax.theory._problem import Problem, check_update

EXACT = Certificate(1.0, 1.0)  # the polar factor's


@dataclass(frozen=True, eq=False)  # it may hold arrays
class Run:
    """How Muon runs: `W_t = W_{t-1} - η_t·(O_t + λ·W_{t-1})`.

    Attributes:
      eta: η, the length of an update: learning rate times shape factor. A number, one for
        every step, or a function of the step's index from 0, such as a schedule of Optax.
      momentum: What is orthogonalized; a number is β without Nesterov's step.
      weight_decay: λ ≥ 0, decoupled, with `η_t·λ ≤ 1`. With a shape factor c it is `λ/c` of
        `muon`'s, which decays by the learning rate and not by η.
      radius: `‖W_0‖_op`, which matters with weight decay alone.

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
        """Whether all steps are alike."""
        constant = not callable(self.eta) and np.ndim(self.eta) == 0
        return constant and self.momentum.is_constant and self.weight_decay == 0

    def etas(self, steps: int) -> NDArray:
        """η of every step."""
        eta = values_at("eta", self.eta, steps)
        if not ((eta > 0).any() and (eta >= 0).all() and np.isfinite(eta).all()):
            raise ValueError(f"eta={self.eta!r:.60}; use numbers ≥ 0, not all of them 0")
        if (eta * self.weight_decay > 1).any():
            raise ValueError(f"weight_decay={self.weight_decay}; use at most 1/η")
        return eta

    def radii(self, steps: int, operator_norm: float = 1.0) -> NDArray:
        """A bound of `‖W_t‖_op` before every step and after the last, of updates of a norm.

        With decay it goes to `operator_norm/λ`, and beyond only if W_0 is there.
        """
        radius, found = self.radius, [self.radius]
        for eta in self.etas(steps):
            radius = (1 - eta * self.weight_decay) * radius + eta * operator_norm
            found.append(radius)
        return np.array(found)


class Bound(NamedTuple):
    """The parts of a bound, in units of the gradient's nuclear norm; see `bound`.

    Attributes:
      descent: What is left of `f(W_0) - inf f`; it falls with the number of steps.
      curvature: That a step is not infinitely short.
      drift: That the momentum averages gradients of former weights.
      noise: That it averages few of them.
      start: That it begins at zero.
    """

    descent: float
    curvature: float
    drift: float
    noise: float
    start: float

    @property
    def total(self) -> float:
        """The bound."""
        return sum(self)


def bound(problem: Problem, run: Run, certificate: Certificate = EXACT) -> Bound:
    """A bound on Muon's mean gradient, for any schedule, momentum, decay and tail.

    It bounds the mean over steps, with weights η_t, of `E[‖g_t‖_* + (λ/a)·⟨g_t, W_{t-1}⟩]`,
    `g_t = ∇f(W_{t-1})`: without decay the gradient's nuclear norm. With decay it is λ/a times
    the Frank–Wolfe gap of minimizing f over `‖W‖_op ≤ a/λ`, zero only at a KKT point.

    Args:
      problem: The constants; with `p < 2` the noise needs no variance.
      run: Step sizes, momentum and decay.
      certificate: Alignment a > 0 and operator norm s of every update.

    Returns:
      The parts of the bound; `.total` is their sum. Where η and β are numbers, without decay,
      Nesterov's step and heavy tails, that is `muon_bound`.

    Raises:
      ValueError: If an argument is out of its range, or a schedule has another length than
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
    sizes = s + run.weight_decay * run.radii(steps, s)[:-1]  # of `O + λ·W`

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
    """The run whose step sizes are multiplied by one number so that its bound is least.

    Without decay the best number is exact, of a constant run that of `best_step`; with decay it
    is searched to 1e-6, with `η_t·λ ≤ 1`. Schedules are compared by their bounds after this.

    Args:
      problem: The constants.
      run: The shape of its step sizes; their size does not count.
      certificate: As for `bound`.

    Returns:
      The run, with an array `eta` if it was a schedule.

    Raises:
      ValueError: As `bound` does.

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
