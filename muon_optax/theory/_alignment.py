"""The alignment of an update with its momentum, for any coefficients.

The normalized momentum `Σ_i x_i·u_i·v_iᵀ` gives the update `O = Σ_i P(x_i)·u_i·v_iᵀ`. Muon's
convergence depends on two numbers: the alignment `a = ⟨M, O⟩/‖M‖_* = Σ x_i·P(x_i)/Σ x_i` and
the operator norm `s = max |P(x_i)|`. For the exact polar factor a = s = 1.
"""

import functools
import math
from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

from muon_optax._checks import check_choice, check_integer
from muon_optax._schedules import Norm, ScheduleLike, find_preset, find_stages
from muon_optax.coefficients import Schedule
from muon_optax.theory._scalar import image, scalar_map

POWERS = {"frobenius": 2, "schatten4": 4}  # normalized: Σ x_i^power = 1

_MINIMA = 256
_ROUNDS = 4


class Certificate(NamedTuple):
    """Bounds on the alignment and operator norm of an update, for `muon_bound`.

    Attributes:
      alignment: a, a lower bound on the alignment of the update.
      operator_norm: s, an upper bound on the operator norm of the update.

    Example:
      >>> Certificate(alignment=0.75, operator_norm=1.5).factor
      2.0
    """

    alignment: float
    operator_norm: float

    @property
    def factor(self) -> float:
        """The ratio `s/a ≥ 1`: the bound is at most s/a times that of the exact polar factor.

        This compares the two bounds at their best step sizes; see docs/theory.md, section 4,
        and docs/proofs_training.md, 4.8. The ratio is infinite if a is not positive.
        """
        return self.operator_norm / self.alignment if self.alignment > 0 else math.inf


def alignment(
    schedule: ScheduleLike, spectrum: ArrayLike, normalize: Norm | None = None
) -> float:
    """The alignment `a = Σ x_i·P(x_i)/Σ x_i` for normalized singular values x.

    Args:
      schedule: See `muon_optax.theory`; `()` for the normalization alone.
      spectrum: The singular values of the momentum, in any unit, not all zero.
      normalize: `"frobenius"` or `"schatten4"`, as in `NewtonSchulz`. None means the
        normalization of `schedule` if it is a method, else `"frobenius"`.

    Returns:
      The alignment, 1 for an exact polar factor.

    Raises:
      ValueError: If any singular value is negative or not finite, if all of them are zero, or
        if `normalize` is neither `"frobenius"` nor `"schatten4"`.

    Example:
      >>> alignment((), [3.0, 4.0])  # the momentum over its norm: (9 + 16)/5/(3 + 4)
      0.7142857142857143
    """
    x = normalized(spectrum, norm_of(schedule, normalize))
    return float((x * scalar_map(schedule, x)).sum() / x.sum())


def cosine(schedule: ScheduleLike, spectrum: ArrayLike, normalize: Norm | None = None) -> float:
    """The cosine of the angle between an update and the exact polar factor.

    It is `Σ P(x)/√(r·Σ P(x)²)` over the r singular values above 1e-6 times the largest one.
    Here small singular values count as much as large ones, unlike in the alignment. In the
    training runs of docs/theory_measured.md, the loss was higher if the cosine was below 0.9.
    The ratio `s/a` does not predict this.

    Args:
      schedule: See `muon_optax.theory`; `()` for the normalization alone.
      spectrum: The singular values of the momentum, in any unit, not all zero.
      normalize: As in `alignment`.

    Returns:
      A number in [-1, 1]: 1 for a multiple of the exact polar factor, 0 for a zero update.

    Raises:
      ValueError: As in `alignment`.

    Example:
      >>> [round(cosine(f"jordan:{q}", [1.0, 0.1, 0.01]), 2) for q in (1, 3, 5)]
      [0.79, 0.97, 1.0]

    Source: docs/theory_measured.md.
    """
    x = normalized(spectrum, norm_of(schedule, normalize))
    y = scalar_map(schedule, x[x > 1e-6 * x.max()])
    norm = math.sqrt(len(y) * (y**2).sum())
    return float(y.sum() / norm) if norm > 0 else 0.0


def alignment_bound(schedule: ScheduleLike, rank: int, normalize: Norm | None = None) -> float:
    """A lower bound `a(P, r)` on the alignment, for every momentum of rank r or less.

    For every λ ≥ 0, `min_x P(x) + λ·(1/r - x²)/x` over x in (0, 1] is a lower bound, because
    `Σ x_i² = 1`. This is the largest of these bounds. Unlike the paper's χ, it does not depend
    on the condition number of the momentum. For `()` it is `1/√r`, which is exact.

    Args:
      schedule: See `muon_optax.theory`; `()` for the normalization alone.
      rank: r, at least 1. If unknown, pass the smaller dimension of the matrix.
      normalize: As in `alignment`; for `"schatten4"` the formula has x⁴ in place of x².

    Returns:
      The bound, accurate to about 2e-6; -inf for a schedule that overflows.

    Raises:
      ValueError: If `rank` is not positive, or if `normalize` is neither `"frobenius"` nor
        `"schatten4"`.

    Example:
      >>> round(alignment_bound("jordan", rank=768), 3)
      0.566

    Source: docs/theory.md, section 3; proofs in docs/proofs.md, 3.1 to 3.3.
    """
    power, schedule = POWERS[norm_of(schedule, normalize)], find_stages(schedule)
    check_integer("rank", rank)
    if rank == 1:
        return float(scalar_map(schedule, 1.0))

    def lines(x: NDArray) -> tuple[NDArray, NDArray]:
        with np.errstate(over="ignore", invalid="ignore"):
            return scalar_map(schedule, x), (1.0 / rank - x**power) / x

    x = _first_grid()
    for _ in range(_ROUNDS):
        values, slopes = lines(x)
        if not np.isfinite(values).all():
            return -math.inf
        weight = _highest_minimum(values, slopes)
        near = _around_minima(x, values + weight * slopes)
        values, slopes = lines(near)
        lowest = values + weight * slopes
        x = np.unique([*x, *near[lowest.argmin(0), np.arange(near.shape[1])]])
    return float(lowest.min())


def alignment_of_equals(schedule: Schedule, rank: int, normalize: Norm) -> float:
    """Return the least alignment of k equal singular values, for up to 1024 numbers k ≤ rank.

    With the Frobenius norm the alignment of k equal values is `P(k^(-1/2))`. The result is at
    least `alignment_bound`.
    """
    check_integer("rank", rank)
    sizes = np.unique(np.geomspace(1, rank, 1024).round())
    with np.errstate(over="ignore", invalid="ignore"):
        return float(scalar_map(schedule, sizes ** (-1.0 / POWERS[normalize])).min())


def certificate(
    schedule: ScheduleLike,
    *,
    rank: int | None = None,
    delta0: float | None = None,
    spectrum: ArrayLike | None = None,
    normalize: Norm | None = None,
) -> Certificate:
    """Bounds on the alignment and operator norm of an update.

    Pass exactly one description of the momentum: `rank`, `delta0` or `spectrum`.

    Args:
      schedule: See `muon_optax.theory`.
      rank: The rank r. The alignment is then bounded by `alignment_bound`.
      delta0: The paper's δ_0: all normalized singular values are in `[√(1-δ_0), 1]`.
      spectrum: All singular values, as measured.
      normalize: As in `alignment`. It has no effect with `delta0`.

    Returns:
      A `Certificate` for the worst momentum of this description.

    Raises:
      ValueError: If not exactly one of `rank`, `delta0` and `spectrum` is given, if it is out
        of its range, or if `normalize` is neither `"frobenius"` nor `"schatten4"`.

    Example:
      >>> a, s = certificate("polar_express", rank=768)
      >>> round(a, 3), round(s, 3)
      (0.761, 1.124)

    Source: docs/theory.md, section 3; proof in docs/proofs.md, 3.1; for `delta0` Kim & Oh,
    arXiv 2601.19156, Theorem 2.
    """
    check_one_is_given(rank=rank, delta0=delta0, spectrum=spectrum)
    if rank is not None:
        low, high = image(schedule, 0.0)
        a = alignment_bound(schedule, rank, normalize)
        return Certificate(a, max(-low, high))
    if delta0 is not None:
        if not 0.0 <= delta0 <= 1.0:
            raise ValueError(f"delta0={delta0}; use a number in [0, 1]")
        low, high = image(schedule, math.sqrt(1.0 - delta0))
        return Certificate(low, max(-low, high))
    assert spectrum is not None
    a = alignment(schedule, spectrum, normalize)
    values = scalar_map(schedule, normalized(spectrum, norm_of(schedule, normalize)))
    return Certificate(a, float(np.abs(values).max()))


def check_one_is_given(**known: ArrayLike | None) -> None:
    """Check that exactly one of several descriptions of a momentum is given."""
    given = [name for name, value in known.items() if value is not None]
    if len(given) != 1:
        raise ValueError(f"got {given or 'nothing'}; pass exactly one of {list(known)}")


@functools.cache
def _first_grid() -> NDArray:
    """Return the first grid to search for the minimum over x, before finer grids around minima.

    In log x the oscillations of a composed polynomial are evenly spaced, but denser close to 1.
    """
    close = 1.0 - np.geomspace(1e-14, 0.1, 2**13)
    return np.unique([*np.geomspace(1e-12, 1.0, 2**14), *close])


def _highest_minimum(values: NDArray, slopes: NDArray) -> float:
    """Return the λ ≥ 0 that maximizes `min_k values_k + λ·slopes_k`, which is concave in λ."""
    # At x = 1 the slope is 1/r - 1 ≤ -1/2, and the value is at most max|P|. This limits λ.
    low, high = 0.0, 4.0 * float(np.abs(values).max())
    for _ in range(56):
        middle = (low + high) / 2
        rising = slopes[(values + middle * slopes).argmin()] > 0
        low, high = (middle, high) if rising else (low, middle)
    return low


def _around_minima(x: NDArray, values: NDArray) -> NDArray:
    """Return 65 points between the neighbours of each local minimum, a column per minimum."""
    padded = np.concatenate([[math.inf], values, [math.inf]])
    minima = np.flatnonzero((values <= padded[:-2]) & (values <= padded[2:]))
    minima = minima[np.argsort(values[minima])[:_MINIMA]]
    return np.geomspace(x[np.maximum(minima - 1, 0)], x[np.minimum(minima + 1, len(x) - 1)], 65)


def norm_of(schedule: ScheduleLike, normalize: Norm | None) -> Norm:
    """Return the given normalization; else that of the method; else `"frobenius"`."""
    if normalize is None:
        are_numbers = isinstance(schedule, tuple | list | np.ndarray)
        normalize = "frobenius" if are_numbers else find_preset(schedule).normalize
        if normalize not in POWERS or getattr(schedule, "eps", 0):
            raise ValueError(
                f"{schedule!r:.80} has a normalization or eps that the theory does not cover; "
                f"pass `normalize`, one of {[*POWERS]}, to compute with that instead"
            )
    check_choice("normalize", normalize, POWERS)
    return normalize


def normalized(spectrum: ArrayLike, normalize: Norm) -> NDArray:
    """Return the spectrum divided by its norm, in float64."""
    power = POWERS[normalize]
    x = np.asarray(spectrum, np.float64).ravel()
    largest = x.max(initial=0.0)
    if not (np.isfinite(x).all() and (x >= 0).all() and largest > 0):
        raise ValueError(f"spectrum={spectrum!r:.80}; use finite numbers ≥ 0, not all zero")
    x = x / largest
    return x / (x**power).sum() ** (1 / power)
