"""`compare`: time, memory and accuracy of polar methods on the same matrices."""

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
    """Compare time, memory and accuracy of polar methods on your matrices and your device.

    The methods take turns on the same matrices. Accuracy is measured against the SVD in
    float64. If a call would take longer than 20 seconds, its time is estimated from smaller
    matrices, and the table says so. If you interrupt the comparison, it returns the results so
    far.

    Args:
      matrices: A shape such as `"768x3072"`, `(768, 3072)` or `"12x1024x1024"` (twelve
        matrices), a list of shapes, or a tree of parameters or of their shapes.
      methods: A list of methods and names, a string of names with commas, or a mapping from
        names to methods. A name is one in `METHODS`, `"family:steps"`, or `"optax"` for
        Optax's Muon.
      momenta: The matrices to measure accuracy on, by path or as a tree like `matrices`, such
        as `diagnostics.momentum(state)`. None means Gaussian matrices.
      dims: As for `muon`, if `matrices` is a tree.
      dtype: The dtype of the methods' input; None means the dtype of the arrays, or float32.
      target: A device that is not here: `"v5e"`, `"v5p"`, `"h100"` or `"h200"`. The device's
        compiler then estimates the times. Accuracy is not measured, and methods must be names.
      progress: A function such as `print`. It is called before each part of the work with the
        part's number, the number of parts, and the part's description.

    Returns:
      A `Comparison`: print it, or use `.verdict`, `.to_dict()`, `.save(path)` and `.plot()`.

    Raises:
      ValueError: If a shape, method, dtype or target is unknown, or no matrix is given.
      RuntimeError: If the compiler for the target is missing; the message says what to install.

    Example:
      >>> found = compare("16x24", ["jordan", "svd"])
      >>> [(time.method, len(time.ms) >= 3) for time in found.times]
      [('jordan', True), ('svd', True)]
      >>> [round(judgement.error, 1) for judgement in found.judgements]
      [0.2, 0.0]

    Source: Kim & Oh, arXiv 2601.19156, Section 5, compares methods on one model.
    """
    contenders = find_contenders(methods)
    if dtype is not None:
        check_choice("dtype", dtype, ("float32", "bfloat16", "float16"))
    if target is not None:
        check_choice("target", target, ELSEWHERE)
        if isinstance(methods, Mapping) or not all(isinstance(m, str) for m in methods):
            raise ValueError("with `target`, pass methods by name, such as 'jordan,svd'")
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
