"""The quality of a method on measured spectra, and the cheapest method that is good enough."""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import replace
from itertools import islice
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from muon_optax._checks import check_number, describe
from muon_optax._schedules import find_family
from muon_optax.coefficients import Coefficients
from muon_optax.dims import MatrixView
from muon_optax.polar._method import PolarMethod
from muon_optax.polar._newton_schulz import NewtonSchulz
from muon_optax.theory._alignment import POWERS, certificate, cosine
from muon_optax.theory._steps import MAX_STEPS

Spectra = Mapping[str, Sequence[ArrayLike]]  # path → the singular values of every matrix
Families = Sequence[Coefficients | str] | str


def measure_spectra(
    spectra: Spectra | None,
    leaves: Mapping[str, tuple[MatrixView, PolarMethod]],
    families: Families,
    wanted: float,
) -> dict[str, dict[str, Any]]:
    """Return, by path, the fields `factor`, `cosine` and `needed` of each `LeafPlan`."""
    check_number("cosine", wanted, "a number in (0, 1)", lambda c: 0 < c < 1)
    if unknown := [path for path in spectra or () if path not in leaves]:
        raise ValueError(
            f"`spectra` has {unknown[0]!r}, which is not a matrix under `dims`; use paths such "
            f"as {next(iter(leaves))!r}, as diagnostics.spectra(params, state) returns them"
        )
    names = (families,) if isinstance(families, str) else tuple(families)
    found = [find_family(family) for family in names]
    return {
        path: _measure(path, [x for x in of_leaf if np.any(x)], *leaves[path], found, wanted)
        for path, of_leaf in (spectra or {}).items()
    }


def _measure(
    path: str,
    spectra: Sequence[ArrayLike],
    view: MatrixView,
    method: PolarMethod,
    families: Sequence[Coefficients],
    wanted: float,
) -> dict[str, Any]:
    """Return the worst matrix's factor and cosine, and the cheapest method that suits all."""
    if not isinstance(method, NewtonSchulz) or method.normalize not in POWERS or method.eps:
        raise ValueError(
            f"leaf {path!r} has the method {describe(method)}, which has no certificate; use "
            f"NewtonSchulz with eps=0 and `normalize` one of {', '.join(POWERS)}, or leave "
            "this leaf out of `spectra`"
        )
    if any(np.ndim(x) != 1 for x in spectra):
        raise ValueError(
            f"`spectra` has no list of vectors for {path!r}; use a list with one array of "
            "singular values per matrix"
        )
    if not spectra:
        return {}

    def least_cosine(method: NewtonSchulz) -> float:
        return min(cosine(method, x) for x in spectra)

    def cost(method: NewtonSchulz) -> float:
        return sum(k * method.plan(m, n).flops for k, m, n in view.sides)

    try:
        factor = max(certificate(method, spectrum=x).factor for x in spectra)
    except ValueError as error:
        raise ValueError(f"spectra of {path!r}: {error}") from None
    suffice = []
    for family in families or (find_family(method.coefficients),):
        enough = (m for m in _by_steps(method, family) if least_cosine(m) >= wanted)
        suffice += [*islice(enough, 1)]
    needed = min(suffice, key=cost, default=None)
    return {"factor": factor, "cosine": least_cosine(method), "needed": needed}


def _by_steps(method: NewtonSchulz, family: Coefficients) -> Iterator[NewtonSchulz]:
    """Yield the method with 1, 2, 3, … steps of a family, without the unstable methods."""
    most = len(family.stages) if family.tail == "fixed" else MAX_STEPS
    for steps in range(1, most + 1):
        with suppress(ValueError):  # unstable
            yield replace(method, coefficients=family, steps=steps)
