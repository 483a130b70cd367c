"""What a method guarantees for measured spectra, leaf by leaf, and the steps that they need."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from muon_optax.polar._method import PolarMethod
from muon_optax.polar._newton_schulz import NewtonSchulz
from muon_optax.theory._alignment import certificate
from muon_optax.theory._steps import steps_for

Spectra = Mapping[str, Sequence[ArrayLike]]  # path → the singular values of every matrix


def measure_spectra(
    spectra: Spectra | None, paths: Sequence[str], method: PolarMethod, factor: float
) -> dict[str, dict[str, Any]]:
    """Path → the fields `factor` and `steps` of its `LeafPlan`."""
    if spectra is None:
        return {}
    if not isinstance(method, NewtonSchulz):
        raise ValueError(f"method={method!r}: spectra need a NewtonSchulz; leave them out")
    if unknown := [path for path in spectra if path not in paths]:
        raise ValueError(
            f"spectra are of {unknown[0]!r}; use paths such as {', '.join(paths[:3])}, as "
            "diagnostics.spectra(params, state) returns them"
        )
    return {path: _measure(of_leaf, method, factor) for path, of_leaf in spectra.items()}


def _measure(spectra: Sequence[ArrayLike], method: NewtonSchulz, factor: float) -> dict:
    """The largest factor s/a of the matrices, and the fewest steps that bring all below one."""
    known = [x for x in spectra if np.any(x)]
    if not known:
        return {}
    steps = [steps_for(factor, method, spectrum=x) for x in known]
    reached = [q for q in steps if q is not None]
    return {
        "factor": max(certificate(method, spectrum=x).factor for x in known),
        "steps": max(reached) if len(reached) == len(steps) else None,
    }
