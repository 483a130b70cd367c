"""The two libraries, called through one set of neutral options.

The options: `beta`, `weight_decay`, `mu_dtype`, `adam_learning_rate`; `steps`, `eps`,
`coefficients` (a name, one stage of three numbers, or a row per step); `dims`, a tree of
`MuonDimensionNumbers`; `rules`, pairs of a path pattern and such a spec, of which the first
match decides; `shardings`; `on_nonfinite`; `exact` for the polar factor by SVD.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import optax
import optax.contrib

import muon_optax
from muon_optax import FLAX, SVD, Coefficients, NewtonSchulz, Rule


class NotOffered(Exception):
    """The library has no such option."""


@dataclass(frozen=True)
class Library:
    """One Muon under neutral options.

    Attributes:
      name: Its name in the table.
      alias: Its `muon`.
      transform: Its `scale_by_muon`.
      translate: From neutral options, and whether they are for `alias`, to its own.
      policies: What it offers for gradients that are not finite.
      plan: From parameters and options to a printed table and path → whether Muon trains it.
    """

    name: str
    alias: Callable[..., optax.GradientTransformation]
    transform: Callable[..., optax.GradientTransformation]
    translate: Callable[[dict[str, Any], bool], dict[str, Any]]
    policies: tuple[str, ...]
    plan: Callable[..., tuple[str, dict[str, bool]]]

    def muon(self, learning_rate: Any, **options: Any) -> optax.GradientTransformation:
        """The optimizer of a whole model."""
        return self.alias(learning_rate, **self.translate(options, True))

    def guarded(self, learning_rate: float) -> optax.GradientTransformation:
        """An optimizer that survives a NaN: by its own policy, else by optax's wrapper."""
        if "skip" in self.policies:
            return self.muon(learning_rate, on_nonfinite="skip")
        return optax.apply_if_finite(self.muon(learning_rate), max_consecutive_errors=1000)

    def scale_by_muon(self, **options: Any) -> optax.GradientTransformation:
        """Momentum and polar step, for matrices only."""
        return self.transform(**self.translate(options, False))

    def injected(self, learning_rate: float, **options: Any) -> optax.GradientTransformation:
        """The optimizer under `optax.inject_hyperparams`, without static arguments."""
        make = optax.inject_hyperparams(self.alias)
        return make(learning_rate=learning_rate, **self.translate(options, True))


def _ours(options: dict[str, Any], alias: bool) -> dict[str, Any]:
    del alias
    others = dict(options)
    if rules := others.pop("rules", ()):
        others["dims"] = (*(Rule(pattern, pattern, spec) for pattern, spec in rules), *FLAX)
    if others.pop("exact", False):
        return {"method": SVD(), **others}
    names = [name for name in ("coefficients", "steps", "eps") if name in others]
    method = {name: others.pop(name) for name in names}
    stages = method.get("coefficients")
    if isinstance(stages, tuple):
        one_per_step = bool(stages) and isinstance(stages[0], tuple)
        method.setdefault("steps", len(stages) if one_per_step else 5)
        stages, tail = (stages, "fixed") if one_per_step else ((stages,), "repeat")
        method["coefficients"] = Coefficients("rows", stages, tail, "an argument")
    return {"method": NewtonSchulz(**method), **others} if method else others


def _our_plan(params: Any, **options: Any) -> tuple[str, dict[str, bool]]:
    table = muon_optax.plan(params, **_ours(options, True))
    return str(table), {leaf.path: leaf.optimizer == "Muon" for leaf in table.leaves}


def _contrib(options: dict[str, Any], alias: bool) -> dict[str, Any]:
    names = {"coefficients": "ns_coeffs", "steps": "ns_steps"}
    names["dims"] = "muon_weight_dimension_numbers" if alias else "weight_dimension_numbers"
    own = {names.get(name, name): value for name, value in options.items()}
    if own.pop("exact", False):
        raise NotOffered("no exact polar factor")
    if own.pop("rules", ()):
        raise NotOffered("no rules")
    own.pop("shardings", None)  # XLA infers them from the arrays
    if own.pop("on_nonfinite", "propagate") != "propagate":
        raise NotOffered("no policy for values that are not finite")
    if isinstance(own.get("ns_coeffs"), str):
        presets = {"jordan": "standard", "you": "dion"}
        own["ns_coeffs"] = presets.get(own["ns_coeffs"], own["ns_coeffs"])
    return own


def _contrib_plan(params: Any, **options: Any) -> tuple[str, dict[str, bool]]:
    raise NotOffered("no table of which leaf is trained how")


OURS = Library(
    "muon_optax",
    muon_optax.muon,
    muon_optax.scale_by_muon,
    _ours,
    ("propagate", "skip"),
    _our_plan,
)
CONTRIB = Library(
    "optax.contrib",
    optax.contrib.muon,
    optax.contrib.scale_by_muon,
    _contrib,
    ("propagate",),
    _contrib_plan,
)
LIBRARIES = (OURS, CONTRIB)
