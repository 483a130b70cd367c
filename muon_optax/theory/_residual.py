"""The paper's measures of an iterate after q steps: the residual δ, the error ε, the factor χ.

`1 - δ = (1 - ε)² = 1/χ²`. They are for the Taylor family, `coefficients.taylor(kappa)`, which
maps [0, 1] into itself monotonically. For other coefficients use `certificate`.
"""

import math
from fractions import Fraction

from muon_optax._checks import check_integer
from muon_optax._polynomials import binomial_series


def residual_polynomial(kappa: int) -> tuple[Fraction, ...]:
    """The coefficients of the polynomial φ that maps a step's residual to the next step's.

    `φ(u) = 1 - (1-u)·p(1-u)² = u^(κ+1)·Σ_s a_s·u^s` with
    `a_s = (2κ+1)·c_κ·c_s/(κ+1+s)`, `c_s = C(2s, s)/4^s`. Every a_s is positive and their sum
    is 1, so `φ(u) ≤ u^(κ+1)` on [0, 1].

    Args:
      kappa: The degree of p in λ, at least 1.

    Returns:
      `(a_0, ..., a_κ)` as exact fractions.

    Raises:
      ValueError: If `kappa` is not a positive integer.

    Example:
      >>> [str(a) for a in residual_polynomial(1)]
      ['3/4', '1/4']

    Source: Kim & Oh, arXiv 2601.19156, Lemmas 2 and 3, for κ = 1 and 2; docs/proofs.md, 2.1,
    for every κ.
    """
    check_integer("kappa", kappa)
    c = binomial_series(kappa)
    return tuple((2 * kappa + 1) * c[kappa] * c[s] / (kappa + 1 + s) for s in range(kappa + 1))


def residual(delta0: float, kappa: int, steps: int) -> float:
    """The orthogonality residual δ_q after q steps, by the exact recursion `δ_{j+1} = φ(δ_j)`.

    `δ_j = ‖Π - X_j·X_jᵀ‖_op = 1 - λ_min⁺(X_j·X_jᵀ)`, where Π projects on the range of the
    momentum and λ_min⁺ is the smallest nonzero eigenvalue.

    Args:
      delta0: δ_0 in [0, 1]: 1 minus the square of the smallest nonzero singular value after
        normalization.
      kappa: κ of the family `taylor(kappa)`.
      steps: q, at least 0.

    Returns:
      δ_q in [0, 1]. For singular values below about 1e-6, use `scalar_map`, because 1 - δ_q
      is lost to rounding.

    Raises:
      ValueError: If an argument is outside its range.

    Example:
      >>> residual(0.5, kappa=2, steps=1)  # 0.5³·(40 + 15·0.5 + 9·0.25)/64
      0.09716796875

    Source: Kim & Oh, arXiv 2601.19156, Definition 3 and Lemma 2.
    """
    delta = _check_fraction("delta0", delta0)
    check_integer("steps", steps, least=0)
    a = [float(x) for x in residual_polynomial(kappa)]
    for _ in range(steps):
        delta = delta ** (kappa + 1) * sum(x * delta**s for s, x in enumerate(a))
        delta = min(delta, 1.0)  # the rounded a_s may add up to 1 + eps
    return delta


def residual_bound(delta0: float, kappa: int, steps: int) -> float:
    """The paper's bound on the residual, `δ_q ≤ δ_0^((κ+1)^q)`.

    It stays close to 1 while the smallest singular value grows by a factor `p(0)` per step.
    Then it decreases doubly exponentially in q.

    Args:
      delta0: δ_0 in [0, 1].
      kappa: κ of the family `taylor(kappa)`.
      steps: q, at least 0.

    Returns:
      The bound, at least `residual` of the same arguments.

    Raises:
      ValueError: If an argument is outside its range.

    Example:
      >>> residual_bound(0.5, kappa=2, steps=1)
      0.125

    Source: Kim & Oh, arXiv 2601.19156, Lemma 3 and Theorem 2.
    """
    delta = _check_fraction("delta0", delta0)
    check_integer("kappa", kappa)
    check_integer("steps", steps, least=0)
    for _ in range(steps):
        delta = delta ** (kappa + 1)
    return delta


def polar_error(delta: float) -> float:
    """The distance to the polar factor, `ε = ‖X - Polar(M)‖_op = 1 - √(1-δ)`.

    It assumes that no singular value of X exceeds 1, as with the Taylor family.

    Args:
      delta: δ in [0, 1].

    Returns:
      ε in [0, 1].

    Raises:
      ValueError: If `delta` is outside [0, 1].

    Example:
      >>> polar_error(0.75)
      0.5

    Source: Kim & Oh, arXiv 2601.19156, Lemma 1.
    """
    return _check_fraction("delta", delta) / (1.0 + math.sqrt(1.0 - delta))


def constant_factor(delta: float) -> float:
    """The paper's factor `χ = 1/(1-ε) = 1/√(1-δ)` between its bounds for X and for Polar(M).

    Pass δ_q from `residual` for the exact χ_q, or from `residual_bound` for Theorem 2's bound.
    In practice the largest δ_0 of a run is so close to 1 that χ_q is very large. `certificate`
    does not need δ_0.

    Args:
      delta: δ in [0, 1].

    Returns:
      χ ≥ 1, infinite at δ = 1.

    Raises:
      ValueError: If `delta` is outside [0, 1].

    Example:
      >>> round(constant_factor(residual_bound(0.9, kappa=2, steps=3)), 3)
      1.03

    Source: Kim & Oh, arXiv 2601.19156, Theorems 1 and 2.
    """
    _check_fraction("delta", delta)
    return math.inf if delta == 1.0 else 1.0 / math.sqrt(1.0 - delta)


def _check_fraction(name: str, value: float) -> float:
    if not 0.0 <= value <= 1.0:
        raise ValueError(f"{name}={value}; use a number in [0, 1]")
    return float(value)
