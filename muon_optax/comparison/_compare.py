"""`compare`: polar methods on the same matrices, by time, memory and accuracy."""

from __future__ import annotations  # so that help() shows short types

import itertools
from collections.abc import Callable, Iterator, Mapping, Sequence
from datetime import UTC, datetime
from importlib.metadata import version
from typing import Any

from muon_optax._checks import check_choice
from muon_optax.comparison._cases import Case, list_cases
from muon_optax.comparison._comparison import Comparison, Judgement, Time
from muon_optax.comparison._contenders import DEFAULT, find_contenders
from muon_optax.comparison._estimated import ELSEWHERE, estimate_case
from muon_optax.comparison._machine import describe_device
from muon_optax.comparison._measure import measure_case
from muon_optax.dims import FLAX, Dims
from muon_optax.polar._method import PolarMethod


def compare(
    matrices: Any,
    methods: str | Sequence[str | PolarMethod] | Mapping[str, PolarMethod] = DEFAULT,
    *,
    momenta: Any = None,
    dims: Dims = FLAX,
    dtype: str | None = None,
    target: str | None = None,
    progress: Callable[[int, int, str], None] | None = None,
) -> Comparison:
    """Time polar methods on your matrices, here, and say how near each comes to the SVD.

    All methods take turns on the same matrices. Accuracy is judged in float64 by NumPy. A call
    that would take longer than 20 seconds is estimated from smaller matrices, and its row says
    so. If interrupted, it returns what was done until then.

    Args:
      matrices: Shapes, such as `"768x3072"`, `(768, 3072)` or a list of these, with a count in
        front for several; or parameters, as arrays or shapes, whose matrices are those that
        `muon` would take.
      methods: Names of `METHODS`, `"family:steps"`, `"optax"` for Optax's Muon, or methods; as
        a list, as a string with commas, or as a mapping from names to methods.
      momenta: What to orthogonalize, by path or as a tree like `matrices`, such as
        `diagnostics.momentum(state)`: methods are then judged on every leaf of it. None for
        Gaussian matrices.
      dims: As for `muon`; of parameters only.
      dtype: Of what the methods get; None for that of the arrays, or float32.
      target: A processor that is not here, to estimate times for by its compiler: `"v5e"`,
        `"v5p"`, `"h100"` or `"h200"`. Methods are named then, and nothing is judged.
      progress: Called before each part of the work with its number, how many there are, and
        what it is; such as `print`.

    Returns:
      A `Comparison`: print it, or see `.verdict`, `.to_dict()`, `.save(path)` and `.plot()`.

    Raises:
      ValueError: If a shape, a method, the dtype or the target is unknown, or no matrix is
        found.
      RuntimeError: If the compiler for the target is missing, with what to install.

    Example:
      >>> found = compare("16x24", ["jordan", "svd"])
      >>> [(time.method, len(time.ms) >= 3) for time in found.times]
      [('jordan', True), ('svd', True)]
      >>> [round(judgement.error, 1) for judgement in found.judgements]
      [0.2, 0.0]

    Source: Kim & Oh, arXiv 2601.19156, Section 5, asks this of one model.
    """
    contenders = find_contenders(methods)
    if dtype is not None:
        check_choice("dtype", dtype, ("float32", "bfloat16", "float16"))
    if target is not None:
        check_choice("target", target, ELSEWHERE)
        if isinstance(methods, Mapping) or not all(isinstance(m, str) for m in methods):
            raise ValueError("with a target methods are names, such as 'jordan,svd'")
    cases = list_cases(matrices, dims, momenta, dtype)
    made_by, found, interrupted = _provenance(target), [], False
    try:
        for row in _rows(cases, contenders, target, progress or (lambda *_: None)):
            found.append(row)
    except KeyboardInterrupt:
        interrupted = True
    times = tuple(row for row in found if isinstance(row, Time))
    judgements = tuple(row for row in found if isinstance(row, Judgement))
    return Comparison(times, judgements, made_by, target, interrupted)


def _rows(
    cases: Sequence[Case],
    contenders: Mapping[str, PolarMethod],
    target: str | None,
    progress: Callable[[int, int, str], None],
) -> Iterator[Time | Judgement]:
    numbers = itertools.count()
    total = len(cases) * (len(contenders) + (2 if target is None else 0))  # time, accuracy

    def say(text: str) -> None:
        progress(next(numbers), total, text)

    for case in cases:
        if target is None:
            yield from measure_case(case, contenders, say)
        else:
            yield from estimate_case(case, list(contenders), target, say)


def _provenance(target: str | None) -> dict[str, Any]:
    packages = {
        package: version(package) for package in ("jax", "jaxlib", "optax", "muon-optax")
    }
    today = datetime.now(UTC).date().isoformat()
    return {"device": target or describe_device(), **packages, "date": today}
