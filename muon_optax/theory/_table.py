"""A table of methods on one measured spectrum."""

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
    """The result of a method on a spectrum, in exact arithmetic.

    Attributes:
      method: The name of the preset or family; `"numbers"` if there is none.
      steps: The number of stages.
      products: The number of matrix products in the direct form.
      error: `‖O - Polar(M)‖_F/‖Polar(M)‖_F` for the momentum M and the update O.
      alignment: See `theory.alignment`.
      smallest: The smallest singular value of the update.
      largest: The largest singular value of the update.
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
    """The results of methods on a spectrum; `print` it.

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
    """Compare how close methods come to the polar factor of a momentum with this spectrum.

    Args:
      spectrum: The singular values as measured, in any unit, not all zero.
      methods: Schedules; see `muon_optax.theory`. The default is all of `METHODS` except
        `"svd"`.
      steps: Numbers of steps to try for every method. None means each method's own number. A
        fixed family gets no row for more steps than it has stages.
      rcond: Singular values up to `rcond` times the largest one are ignored. None means the
        number of singular values times the machine epsilon of float32, or of their dtype if it
        is wider.

    Returns:
      A `Table`, computed in float64.

    Raises:
      ValueError: If a name is unknown, if a normalization is neither `"frobenius"` nor
        `"schatten4"`, if a number of steps is not positive, if the spectrum is invalid, or if
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
    """Return the row of a schedule, for a normalized spectrum without zeros."""
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
