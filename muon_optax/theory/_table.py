"""Methods side by side, on one measured spectrum."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

from muon_optax._checks import check_number
from muon_optax._schedules import PRESETS, ScheduleLike, find_preset
from muon_optax._text import align
from muon_optax.coefficients import Schedule
from muon_optax.theory._alignment import norm_of, normalized
from muon_optax.theory._scalar import scalar_map
from muon_optax.theory._steps import products


class Row(NamedTuple):
    """What a method does to a spectrum, in exact arithmetic.

    Attributes:
      method: The name of the preset or family; `"numbers"` if there is none.
      steps: The number of stages.
      products: The number of matrix products in the direct form.
      error: `‖O - Polar(M)‖_F/‖Polar(M)‖_F` of the update O of the momentum M.
      alignment: See `theory.alignment`; 1 for the exact polar factor, as the next two.
      smallest: The smallest singular value of the update.
      largest: The largest.
    """

    method: str
    steps: int
    products: int
    error: float
    alignment: float
    smallest: float
    largest: float


@dataclass(frozen=True)
class Table:
    """What methods do to a spectrum; `print` it.

    Attributes:
      rows: A `Row` for every method and number of steps.
    """

    rows: tuple[Row, ...]

    def __str__(self) -> str:
        cells = [[x if isinstance(x, str) else f"{x:.3g}" for x in row] for row in self.rows]
        return align([Row._fields, *cells])


def tabulate(
    spectrum: ArrayLike,
    methods: Sequence[ScheduleLike] = tuple(PRESETS),
    steps: Sequence[int] | None = None,
    rcond: float | None = None,
) -> Table:
    """How near methods come to the polar factor of a momentum with these singular values.

    Args:
      spectrum: The singular values as measured, in any unit, not all zero.
      methods: Schedules, or what names them; see `muon_optax.theory`. By default all of
        `METHODS` but `"svd"`. A method brings its own normalization.
      steps: Numbers of steps to take with every method; None for the method's own. A family
        without so many stages has no such row.
      rcond: Singular values up to `rcond` times the largest count as zero, and do not count.
        None for their number times the eps of their dtype, float32 or wider: as in `SVD`,
        where it is the longer side of the matrix.

    Returns:
      A `Table`, computed in float64.

    Raises:
      ValueError: If a name is unknown, a normalization is not Frobenius or Schatten-4, a number
        of steps is not positive, a singular value is negative or not finite, all are zero, or
        `rcond` is not in [0, 1).

    Example:
      >>> print(tabulate([1.0, 0.3, 0.1, 0.01, 0.003], ("jordan", "fast"), steps=(4, 5)))
      method  steps  products  error  alignment  smallest  largest
      ------  -----  --------  -----  ---------  --------  -------
      jordan  4      12        0.291  1.06       0.394     1.13
      jordan  5      15        0.234  0.785      0.684     1.08
      fast    4      12        0.161  1.01       0.738     1.1
      fast    5      15        0.153  1.14       0.976     1.2
    """
    sigma = np.asarray(spectrum)
    if rcond is None:
        eps = np.finfo(np.result_type(sigma.dtype, np.float32)).eps
        rcond = sigma.size * float(eps)
    check_number("rcond", rcond, "None or a number in [0, 1)", lambda r: 0 <= r < 1)
    rows = []
    for method in methods:
        preset, normalize = find_preset(method), norm_of(method, None)
        family = preset.coefficients
        name = method.partition(":")[0] if isinstance(method, str) else family.name or "numbers"
        x = normalized(sigma, normalize)
        x = x[x > rcond * x.max()]
        for q in [len(preset.schedule)] if steps is None else steps:
            if family.tail == "repeat" or q <= len(family.stages):
                rows.append(_row(name, family.schedule(q), x))
    return Table(tuple(rows))


def _row(name: str, schedule: Schedule, x: NDArray) -> Row:
    """The row of a schedule, and of a normalized spectrum without zeros."""
    values = scalar_map(schedule, x)
    return Row(
        name,
        len(schedule),
        products(schedule),
        error=math.sqrt(((1 - values) ** 2).mean()),
        alignment=float((x * values).sum() / x.sum()),
        smallest=float(values.min()),
        largest=float(values.max()),
    )
