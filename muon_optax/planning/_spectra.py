"""What a method guarantees for measured spectra, leaf by leaf, and the steps that they need."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from muon_optax.dims import Assignment
from muon_optax.polar._method import PolarMethod
from muon_optax.polar._newton_schulz import NewtonSchulz
from muon_optax.theory._alignment import POWERS, certificate
from muon_optax.theory._steps import MAX_STEPS

Spectra = Mapping[str, Sequence[ArrayLike]]  # path → the singular values of every matrix


def measure_spectra(
    spectra: Spectra | None,
    assignments: Mapping[str, Assignment],
    method: PolarMethod,
    factor: float,
) -> dict[str, dict[str, Any]]:
    """Path → the fields `factor` and `steps` of its `LeafPlan`, for paths of matrices."""
    if spectra is None:
        return {}
    if not isinstance(method, NewtonSchulz) or method.normalize not in POWERS or method.eps:
        raise ValueError(
            f"method={method!r}: spectra need a NewtonSchulz that normalizes by one of "
            f"{', '.join(POWERS)} and has eps=0; leave them out"
        )
    paths = [path for path, found in assignments.items() if found.view]
    if unknown := [path for path in spectra if path not in paths]:
        raise ValueError(
            f"spectra are of {unknown[0]!r}; use paths of matrices, such as {paths[0]!r}, as "
            "diagnostics.spectra(params, state) returns them"
        )
    return {path: _measure(path, of_leaf, method, factor) for path, of_leaf in spectra.items()}


def _measure(
    path: str, spectra: Sequence[ArrayLike], method: NewtonSchulz, wanted: float
) -> dict[str, Any]:
    """The largest factor s/a of the matrices, and the fewest steps that bring all below one."""
    known = [x for x in spectra if np.any(x)]

    def factor(method: NewtonSchulz) -> float:
        try:
            return max(certificate(method, spectrum=x).factor for x in known)
        except ValueError as error:
            raise ValueError(f"spectra of {path!r}: {error}") from None

    if not known:
        return {}
    steps = (q for q, of_steps in _by_steps(method) if factor(of_steps) <= wanted)
    return {"factor": factor(method), "steps": next(steps, None)}


def _by_steps(method: NewtonSchulz) -> Iterator[tuple[int, NewtonSchulz]]:
    """The method with one step, two and so on, as far as its family goes."""
    for steps in range(1, MAX_STEPS + 1):
        try:
            yield steps, replace(method, steps=steps)
        except ValueError:  # a fixed family ends
            return
