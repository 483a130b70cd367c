"""The number of operations of a schedule on one matrix, for any division into segments.

A segment consists of consecutive stages that share one Gram matrix `x·xᴴ`. A segment needs two
large products, `x·xᴴ` and `q·x`, where x is the matrix with its long side. Every stage needs
the small products of its polynomial. Every stage of a segment except the first needs three more
small products, which update the Gram matrix.
"""

from muon_optax._polynomials import power_products
from muon_optax.coefficients import Schedule

CARRYING_PRODUCTS = 3  # q·h and r·h·h: small products between two stages of one segment


def count_products(schedule: Schedule, segments: tuple[int, ...]) -> tuple[int, int]:
    """Return the number of large products and the number of small products."""
    carried = len(schedule) - len(segments)
    polynomials = sum(power_products(len(stage) - 1) for stage in schedule)
    return 2 * len(segments), polynomials + CARRYING_PRODUCTS * carried


def count_flops(
    schedule: Schedule, m: int, n: int, segments: tuple[int, ...]
) -> tuple[int, int]:
    """Return the operations of the large products and those of the small products.

    m and n may come in either order. A small product multiplies two square matrices of size
    min(m, n). `segments` has the number of stages of each segment, first to last.
    `(1,) * len(schedule)` is the direct form. A multiplication and an addition count as two
    operations.

    >>> schedule = ((3.4445, -4.7750, 2.0315),) * 5
    >>> count_flops(schedule, 768, 3072, segments=(1, 1, 1, 1, 1))
    (36238786560, 4529848320)
    >>> count_flops(schedule, 768, 3072, segments=(5,))
    (7247757312, 15401484288)
    """
    m, n = min(m, n), max(m, n)
    large, small = count_products(schedule, segments)
    return large * 2 * m**2 * n, small * 2 * m**3
