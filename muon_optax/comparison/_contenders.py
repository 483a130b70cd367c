"""The methods to compare, by name or as objects, and Optax's Muon."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import optax
from jax import Array
from optax.contrib import MuonDimensionNumbers

from muon_optax.polar._method import PolarMethod, check_method
from muon_optax.polar._presets import find_method

OPTAX, EXACT = "optax", "svd"
DEFAULT = ("jordan", "fast", "polar_express:8", OPTAX, EXACT)

Polar = Callable[[Array], Array]  # [..., m, n] → the same shape and dtype


@dataclass(frozen=True)
class OptaxMuon:
    """Optax's orthogonalization as a method: its Muon without momentum."""

    def polar(self, x: Array) -> Array:
        """Return the polar factors of matrices `[count, m, n]`."""
        dims = MuonDimensionNumbers(reduction_axis=1, output_axis=2)
        tx = optax.contrib.scale_by_muon(
            beta=0.0, nesterov=False, weight_dimension_numbers={"x": dims}
        )
        updates: Any = tx.update({"x": x}, tx.init({"x": x}))[0]
        return updates["x"]


def find_contenders(
    methods: Sequence[str | PolarMethod] | Mapping[str, PolarMethod] | str,
) -> dict[str, PolarMethod]:
    """Return name → method. A method that is given as an object is named by its `repr`.

    Raises:
      ValueError: If a name is unknown, or there are no methods.
    """
    if isinstance(methods, str):
        methods = [name.strip() for name in methods.split(",") if name.strip()]
    if not isinstance(methods, Mapping):
        named = {m if isinstance(m, str) else repr(m): m for m in methods}
        methods = {name: _find(m) if isinstance(m, str) else m for name, m in named.items()}
    if not methods:
        raise ValueError(f"methods is empty; use names such as {', '.join(DEFAULT)}")
    for method in methods.values():
        check_method(method)
    return dict(methods)


def _find(name: str) -> PolarMethod:
    return OptaxMuon() if name == OPTAX else find_method(name, (OPTAX,))
