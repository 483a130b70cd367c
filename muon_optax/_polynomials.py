"""Odd polynomials of one variable: their values, and two approximations of 1 by them.

Both approximations have the form `z·Σ_s a_s·v^s` with `v = 1 - z²`. The first is the Taylor
polynomial at z = 1, where `a_s = C(2s, s)/4^s`. The second is the best approximation on an
interval around z = 1 (by Remez's exchange), which is close to the Taylor polynomial.
"""

import math
from collections.abc import Sequence
from fractions import Fraction

import numpy as np

Stage = tuple[float, ...]  # (c0, c1, ...): x ↦ c0·x + c1·x³ + ...


def evaluate(stage: Stage, x):
    """Evaluate `c0·x + c1·x³ + …` at a float or a NumPy array, by Horner's rule."""
    square = x * x
    value = 0.0 * x
    for c in reversed(stage):
        value = value * square + c
    return value * x


def image(stage: Stage, low: float, high: float) -> tuple[float, float]:
    """Return the smallest and the largest value of a stage on [low, high]."""
    derivative = np.zeros(2 * len(stage) - 1)
    derivative[::2] = [(2 * s + 1) * c for s, c in enumerate(stage)]
    roots = np.roots(derivative[::-1])
    critical = roots.real[np.abs(roots.imag) <= 1e-7 * np.abs(roots)]
    inside = critical[(critical > low) & (critical < high)]
    values = evaluate(stage, np.array([low, high, *inside]))
    return float(values.min()), float(values.max())


def first_zero(stage: Stage) -> float:
    """Return the largest z, or infinity, with a positive polynomial on (0, z); 0 if none."""
    if stage[0] <= 0:
        return 0.0
    squares = np.roots(stage[::-1])
    real = squares.real[(np.abs(squares.imag) <= 1e-7 * np.abs(squares)) & (squares.real > 0)]
    return math.sqrt(real.min()) if real.size else math.inf


def block_width(degree: int) -> int:
    """Return the number of powers that Paterson-Stockmeyer's scheme computes: ⌈√degree⌉."""
    return math.isqrt(max(degree, 1) - 1) + 1


def power_products(degree: int) -> int:
    """Return the number of matrix products that a matrix polynomial of this degree needs."""
    width = block_width(degree)
    return max(0, width - 1 + math.ceil(degree / width) - 1)


def taylor_polynomial(kappa: int) -> Stage:
    """Return the Taylor polynomial of degree `2κ+1`, computed exactly and then rounded."""
    return _ascending(binomial_series(kappa))


def best_odd_polynomial(low: float, high: float, kappa: int) -> Stage:
    """Return the odd polynomial of degree `2κ+1` that minimizes `max |1 - p|` on [low, high].

    Its error alternates between E and -E at κ+2 points: the ends and the κ critical points
    between them. Each round of the exchange finds the polynomial whose error alternates at the
    current points, and then moves the points to the critical points of that polynomial.

    With the midpoint m and `z = x/m`, the unknown is `z·D(v)`, the difference from the Taylor
    polynomial. The right-hand side then has a closed form that loses no digits, even if `low`
    is close to `high`.

    `low` has to be positive. Raises an `ArithmeticError` if the exchange does not converge.
    """
    middle, radius = (high + low) / 2, (high - low) / (high + low)
    series = np.array([float(a) for a in binomial_series(kappa)])
    width = radius * (2 + radius)  # the largest |v|; t = v/width is in [-1, 1]
    c = np.cos(np.pi * np.arange(kappa + 2) / (kappa + 1))
    t = (2 * c - radius * c * c) / (2 + radius)  # where z = 1 - radius·c
    ends = t[[0, -1]]
    for _ in range(100):
        # At the ends z is known exactly; sqrt(1 - v) would be rounded.
        z = np.array([low / middle, *np.sqrt(1 - width * t[1:-1]), high / middle])
        d = _alternating_difference(z, t, width, series)
        previous, t = t, np.array([ends[0], *_critical(d, width, series), ends[1]])
        if np.max(np.abs(t - previous)) < 1e-9:  # E is stationary, so exact to 1e-18
            break
    else:
        raise ArithmeticError(
            f"the exchange does not converge on [{low}, {high}] for kappa={kappa}; use a "
            "smaller kappa or a larger lower end"
        )
    difference = d * width ** np.arange(kappa + 1, 0, -1.0)
    stage = _ascending([Fraction(a) for a in series + difference])
    return tuple(c / middle ** (2 * s + 1) for s, c in enumerate(stage))


def _alternating_difference(
    z: np.ndarray, t: np.ndarray, width: float, series: np.ndarray
) -> np.ndarray:
    """Solve `z·D ± E = 1 - z·p` at the points z, with both sides divided by width^(κ+1)."""
    kappa = len(series) - 1
    v = width * t
    matrix = z[:, None] * t[:, None] ** np.arange(kappa + 1)
    matrix = np.column_stack([matrix, (-1.0) ** np.arange(kappa + 2)])
    # 1 - (z·p)² = (2κ+1)·a_κ·Σ_s a_s·v^(κ+1+s)/(κ+1+s), exactly.
    s = np.arange(kappa + 1)
    gap = (2 * kappa + 1) * series[-1] * (v[:, None] ** s @ (series / (kappa + 1 + s)))
    product = z * np.polynomial.polynomial.polyval(v, series)
    positive = product > 0
    residual = t ** (kappa + 1) * gap / np.where(positive, 1 + product, 1.0)
    # Where z·p ≤ 0, 1 - z·p loses no digits. The closed form would be 0/0 at z·p = -1.
    residual[~positive] = (1 - product[~positive]) / width ** (kappa + 1)
    return np.linalg.solve(matrix, residual)[:-1]


def _critical(d: np.ndarray, width: float, series: np.ndarray) -> np.ndarray:
    """Return the critical points of `z·(p + D)`, descending in t."""
    kappa = len(series) - 1
    s = np.arange(kappa + 1)
    # The derivative, divided by width^κ.
    derivative = d * width * (1 + 2 * s)  # of z·D: D(v) - 2(1-v)·D'(v)
    derivative[:-1] -= 2 * s[1:] * d[1:]
    derivative[-1] += (2 * kappa + 1) * series[-1]  # of z·p: (2κ+1)·a_κ·v^κ
    return np.sort(np.roots(derivative[::-1]).real)[::-1]


def binomial_series(kappa: int) -> list[Fraction]:
    """Return `C(2s, s)/4^s` for s = 0..κ, the Taylor coefficients of `(1-v)^(-1/2)`."""
    return [Fraction(math.comb(2 * s, s), 4**s) for s in range(kappa + 1)]


def _ascending(series: Sequence[Fraction]) -> Stage:
    """Expand `Σ_s a_s·(1-x²)^s` in ascending powers of x², in exact arithmetic."""
    kappa = len(series) - 1
    return tuple(
        float((-1) ** j * sum(series[s] * math.comb(s, j) for s in range(j, kappa + 1)))
        for j in range(kappa + 1)
    )
