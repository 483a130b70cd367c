"""The number of operations that a schedule takes on one matrix, in any form.

A segment is a run of stages that share one Gram matrix. It takes two products with the long
side in them, `x·xᴴ` and `q·x`. Every stage takes the small products of its polynomial. Every
stage but the first of a segment takes three more, which carry the Gram matrix over.
"""

from muon_optax._polynomials import power_products
from muon_optax.coefficients import Schedule

CARRYING_PRODUCTS = 3  # q·h and r·h·h: small products between two stages of a segment


def count_products(schedule: Schedule, segments: tuple[int, ...]) -> tuple[int, int]:
    """The number of products with the long side in them, and of small products."""
    carried = len(schedule) - len(segments)
    polynomials = sum(power_products(len(stage) - 1) for stage in schedule)
    return 2 * len(segments), polynomials + CARRYING_PRODUCTS * carried


def count_flops(
    schedule: Schedule, m: int, n: int, segments: tuple[int, ...]
) -> tuple[int, int]:
    """Operations on an m × n matrix: with its long side in them, and of small products.

    The small products are m × m by m × m, for m ≤ n; the sides may come in either order.
    `segments` has the number of stages of each segment, first to last; `(1,) * len(schedule)`
    is the direct form. A multiplication and an addition count as two operations.

    >>> schedule = ((3.4445, -4.7750, 2.0315),) * 5
    >>> count_flops(schedule, 768, 3072, segments=(1, 1, 1, 1, 1))
    (36238786560, 4529848320)
    >>> count_flops(schedule, 768, 3072, segments=(5,))
    (7247757312, 15401484288)
    """
    m, n = min(m, n), max(m, n)
    large, small = count_products(schedule, segments)
    return large * 2 * m**2 * n, small * 2 * m**3
