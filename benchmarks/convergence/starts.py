"""Starts of the polar step: where each leads, and the products that it leaves to make.

`polar(M) = G^(-1/2)·M` with `G = M·Mᴴ`. With the root Q of another Gram matrix, stages in the
Gram form take `R = Q·G·Qᴴ` to 1, and `Q·M` to its own polar factor, `U·polar(M)`. U is 1 only
if Q commutes with G. Else, in the basis in which Q has the eigenvalues λ, and for R near 1,
`U - 1 ≈ ½·(R - 1)_ij·(λ_i - λ_j)/(λ_i + λ_j)`, which no further stage makes smaller.
"""

from collections.abc import Callable, Iterable, Sequence
from functools import cache, partial
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from muon_optax import NewtonSchulz
from muon_optax._operations import count_products
from muon_optax.coefficients import Schedule, minimax, taylor
from muon_optax.theory import scalar_map

STEPS, LOWER = 5, (0.3, 0.1, 0.03, 0.01, 0.003)

Products = tuple[int, int]  # large ones, with the long side in them, and small ones
Parts = tuple[NDArray, NDArray]  # left singular vectors and singular values, in float64


class Start(NamedTuple):
    """Singular values, and of each pair of singular vectors the share of `⟨M, ·⟩/‖M‖_*`.

    `distance` is that of its polar factor to `polar(M)`, in the operator norm.
    """

    sigma: NDArray
    weights: NDArray
    distance: float = 0.0

    def described(self) -> dict[str, float]:
        """`‖1 - R‖_op`, and alignment and distance of what it converges to."""
        of_limit = {"alignment": float(self.weights.sum()), "distance": self.distance}
        return {"residual": residual(self.sigma, self.weights)} | of_limit


def decompose(m: NDArray) -> Parts:
    """Of a matrix whose sides are in either order."""
    wide = np.asarray(m if m.shape[0] <= m.shape[1] else m.T, np.float64)
    return np.linalg.svd(wide, full_matrices=False)[:2]


def cold(m: Parts) -> Start:
    """`M/‖M‖_F`."""
    _, sigma = m
    return Start(sigma / np.linalg.norm(sigma), sigma / sigma.sum())


def warm(before: Parts, m: Parts, damping: float = 0.0) -> Start:
    """`Q·M` with `Q = (G + ε·‖G‖_op)^(-1/2)` of the matrix before."""
    (u, of_last), (v, sigma) = before, m
    q = (u / np.sqrt(of_last**2 + damping * of_last[0] ** 2)) @ u.T
    # All have the right singular vectors of M, which are left out here.
    left, found, right = np.linalg.svd(q @ (v * sigma))
    weights = np.einsum("ji,jk,ik->i", left, v * sigma, right) / sigma.sum()
    return Start(found, weights, float(np.linalg.norm(left @ right - v, 2)))


def residual(p: NDArray, weights: NDArray) -> float:
    """`‖1 - R‖_op` once the singular values are p."""
    del weights
    return float(np.abs(1 - p**2).max())


def factor(p: NDArray, weights: NDArray) -> float:
    """`s/a`, the operator norm over the alignment with M, once the singular values are p."""
    aligned = float((p * weights).sum())
    return float(np.abs(p).max()) / aligned if aligned > 0 else np.inf


# Products


def flops(shape: Sequence[int], products: Products) -> int:
    """Operations on a matrix with these sides."""
    (m, n), (large, small) = sorted(shape), products
    return 2 * m * m * (large * n + small * m)


def cold_products(schedule: Schedule, shape: Sequence[int]) -> Products:
    """Of the direct form or the Gram form, whichever takes fewer operations."""
    if not schedule:
        return 0, 0
    forms = ((1,) * len(schedule), (len(schedule),))
    return min((count_products(schedule, f) for f in forms), key=partial(flops, shape))


def warm_products(schedule: Schedule, shape: Sequence[int]) -> Products:
    """In the Gram form: G and the last product; two for R; and one for the first stage on Q."""
    del shape  # Q, for the next step, is left behind by the Gram form alone
    if not schedule:
        return 2, 2
    large, small = count_products(schedule, (len(schedule),))
    return large, small + 3


@cache
def schedules(family: str) -> tuple[Schedule, ...]:
    """What may follow: nothing, Taylor's, minimax of intervals, the family's last stages."""
    found = [taylor(kappa).schedule(q) for kappa in (1, 2) for q in range(1, 9)]
    found += [minimax(q, lower).schedule(q) for q in range(1, STEPS + 1) for lower in LOWER]
    return ((), *found, *(NewtonSchulz(family, STEPS).schedule[i:] for i in range(STEPS)))


def cheapest(
    accuracy: Callable[[NDArray, NDArray], float],
    limit: float,
    schedules: Iterable[Schedule],
    shape: Sequence[int],
    start: Start,
    count: Callable[[Schedule, Sequence[int]], Products],
) -> Products | None:
    """The least work that reaches the limit, from the start as it is or scaled into [0, 1]."""
    work = sorted(((count(s, shape), s) for s in schedules), key=lambda w: flops(shape, w[0]))
    for products, schedule in work:
        with np.errstate(over="ignore", invalid="ignore"):  # of a start beyond the interval
            for x in (start.sigma, start.sigma / max(1.0, start.sigma[0])):
                if accuracy(scalar_map(schedule, x), start.weights) <= limit:
                    return products
    return None
