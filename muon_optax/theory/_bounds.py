"""Convergence bounds for Muon and SGD: the mean gradient norm over T steps.

Each function except `spectral_bound` bounds `(1/T)·Σ_t E‖∇f(W_{t-1})‖_*`, the mean nuclear norm
of the gradient, in the worst case over all problems with the given constants. The
algorithm is the paper's Algorithm 1: one matrix, `M_t = β·M_{t-1} + G_t`, a constant step size,
no Nesterov momentum, no weight decay.
"""

import math

from muon_optax.theory._alignment import Certificate
from muon_optax.theory._momentum import Momentum
from muon_optax.theory._problem import Problem, check_update
from muon_optax.theory._run import Run, bound


def paper_bound(problem: Problem, eta: float, beta: float, polar_error: float) -> float:
    """The paper's bound on Muon's mean gradient norm, with all constants.

    `1/(1-ε)·[D/(Tη) + (Lη/2)·(1+ε)² + 2βLη(1+ε)/(1-β) + 2σ√(r/B)·√((1-β)/(1+β))
    + 2β√(2rLD)/(T(1-β))]`, for any η > 0. Here ε is the largest operator-norm distance to the
    polar factor in the run.

    Args:
      problem: The constants.
      eta: The step size η > 0.
      beta: β in [0, 1).
      polar_error: ε in [0, 1); 0 for the exact polar factor, as in Theorem 4.

    Returns:
      The bound, in units of the gradient's nuclear norm.

    Raises:
      ValueError: If an argument is out of its range.

    Example:
      >>> round(paper_bound(Problem(L=2.0, D=1.0, sigma=0.0, r=4, T=100), 0.1, 0.0, 0.0), 3)
      0.2

    Source: Kim & Oh, arXiv 2601.19156, Appendix B.
    """
    if not 0.0 <= polar_error < 1.0:
        raise ValueError(f"polar_error={polar_error}; use ε in [0, 1), or call muon_bound")
    check_update(beta)
    p, size = _with_variance(problem), 1.0 + polar_error
    drift = 2 * beta * p.L * eta * size / (1 - beta)
    start = 2 * beta * math.sqrt(2 * p.r * p.L * p.D) / (p.T * (1 - beta))
    noise = float(p.noise((1 - beta) / (1 + beta)))
    descent = p.D / (p.T * _positive("eta", eta)) + p.L * eta / 2 * size**2
    return (descent + drift + 2 * noise + start) / (1 - polar_error)


def muon_bound(
    problem: Problem,
    eta: float,
    beta: float,
    alignment: float = 1.0,
    operator_norm: float = 1.0,
) -> float:
    """A bound on Muon's mean gradient norm, for updates of known alignment and operator norm.

    It is `(1/a)·[D/(Tη) + (Lη/2)·s² + (a+s)·R]` with
    `R = βLηs/(1-β) + √((1-β)/(1+β))·√(r/B)·σ + β√(2LD)/(T(1-β))`, for any η > 0. With a ≥ 1-ε
    and s ≤ 1+ε it is at most `paper_bound`. With `*certificate(schedule, rank=r)` it holds for
    every momentum.

    Args:
      problem: The constants.
      eta: The step size η > 0.
      beta: β in [0, 1).
      alignment: a > 0, a lower bound over the run; 1 for the exact polar factor.
      operator_norm: s ≥ a, an upper bound over the run; 1 for the exact polar factor.

    Returns:
      The bound, in units of the gradient's nuclear norm.

    Raises:
      ValueError: If an argument is out of its range.

    Example:
      >>> from muon_optax.coefficients import JORDAN
      >>> from muon_optax.theory import certificate, tuned_step
      >>> problem = Problem(L=1.0, D=1.0, sigma=0.1, r=16, T=1000)
      >>> eta, beta = tuned_step(problem)
      >>> jordan = certificate(JORDAN.schedule(5), rank=16)
      >>> round(muon_bound(problem, eta, beta), 2)
      0.52
      >>> round(muon_bound(problem, eta, beta, *jordan), 2)
      0.79

    Source: docs/theory.md, section 4; proof in docs/proofs_training.md, 4.1 to 4.4, with
    Kim & Oh, arXiv 2601.19156, Appendix B.
    """
    run = Run(_positive("eta", eta), Momentum(beta))
    return bound(_with_variance(problem), run, Certificate(alignment, operator_norm)).total


def sgdm_bound(problem: Problem, eta: float, beta: float) -> float:
    """A bound on the mean gradient norm of SGD with momentum, in the same nuclear norm.

    It is `√r·√(2D(1-β)/(Tη) + 2β²·L_F·D/(T(1-β)) + (1-β)·σ²/B)` for `W ← W - η·M` and
    `η ≤ (1-β)²/L_F`. The factor √r is there because SGD descends in the Frobenius norm. Muon's
    bound does not have this factor, but its L may be up to r times L_F. This is so if all
    curvatures are equal, for example, and then SGD's bound is not worse.

    Args:
      problem: The constants; pass `L_F`.
      eta: The step size η > 0.
      beta: β in [0, 1).

    Returns:
      The bound, in units of the gradient's nuclear norm.

    Raises:
      ValueError: If an argument is out of its range, or if `η > (1-β)²/L_F`.

    Example:
      >>> sgdm_bound(Problem(L=2.0, D=1.0, sigma=0.0, r=4, T=100, L_F=0.5), 2.0, 0.0)
      0.2

    Source: docs/theory.md, section 5; proof in docs/proofs_training.md, 5.1. It replaces
    Theorem 3 of Kim & Oh, arXiv 2601.19156.
    """
    check_update(beta)
    p, smoothness = _with_variance(problem), problem.frobenius_smoothness
    largest = (1 - beta) ** 2 / smoothness
    if not 0 < eta <= largest * (1 + 1e-12):
        raise ValueError(f"eta={eta}; the bound holds for 0 < η ≤ (1-β)²/L_F = {largest:.3g}")
    descent = 2 * p.D * (1 - beta) / (p.T * eta)
    start = 2 * beta**2 * smoothness * p.D / (p.T * (1 - beta))
    return math.sqrt(p.r * (descent + start + (1 - beta) * p.sigma**2 / p.B))


def spectral_bound(initial: float, weight_decay: float, operator_norm: float = 1.0) -> float:
    """The bound `‖W_t‖_op ≤ max(‖W_0‖_op, s/λ)` at every step, under decoupled weight decay.

    It holds for `W ← (1 - η_t·λ)·W - η_t·O` with step sizes `0 ≤ η_t ≤ 1/λ`, because each step
    is then a convex combination of W and `-O/λ`. If there is a shape factor, multiply s by it.

    Args:
      initial: `‖W_0‖_op`.
      weight_decay: λ > 0.
      operator_norm: s, the largest operator norm of an update: `certificate(...)[1]`.

    Returns:
      The bound.

    Raises:
      ValueError: If an argument is out of its range.

    Example:
      >>> spectral_bound(initial=1.0, weight_decay=0.25)
      4.0

    Source: docs/theory.md, section 6; proof in docs/proofs_training.md, 6.1; Chen, Li & Liu,
    arXiv 2506.15054.
    """
    if not (initial >= 0 and operator_norm >= 0):
        raise ValueError(f"initial={initial}, operator_norm={operator_norm}; use norms ≥ 0")
    return max(float(initial), operator_norm / _positive("weight_decay", weight_decay))


def _with_variance(problem: Problem) -> Problem:
    if problem.p < 2:
        raise ValueError(f"p={problem.p}; use p=2, or call theory.bound for heavy-tailed noise")
    return problem


def _positive(name: str, value: float) -> float:
    if not value > 0:
        raise ValueError(f"{name}={value}; use a positive number")
    return value
