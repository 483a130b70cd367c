"""Knows how each library says the same: neutral options as its own arguments."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import optax
import optax.contrib

import muon_optax
from muon_optax import FLAX, SVD, Coefficients, NewtonSchulz, Rule


class NotOffered(Exception):
    """A library has no such option."""


@dataclass(frozen=True)
class Library:
    """One Muon under neutral options.

    They are `beta`, `weight_decay`, `mu_dtype`, `adam_learning_rate`; `steps`, `eps`,
    `coefficients` (a name, three numbers or rows of three); `dims`, a tree of optax's
    `MuonDimensionNumbers`; `rules`, pairs of a pattern of paths and one of these, the first
    that matches deciding; `shardings`; `on_nonfinite`; `exact` for the polar factor by SVD.

    Attributes:
      name: As in the table.
      alias: Its `muon`.
      transform: Its `scale_by_muon`.
      translate: From neutral options, and whether they are the alias', to its own.
      policies: What it does itself about a gradient that is not finite.
      explain: From parameters and the alias' own options to what is printed of the router's
        decisions, and whether Muon trains each path.
    """

    name: str
    alias: Callable[..., optax.GradientTransformation]
    transform: Callable[..., optax.GradientTransformation]
    translate: Callable[[dict[str, Any], bool], dict[str, Any]]
    policies: tuple[str, ...]
    explain: Callable[..., tuple[str, dict[str, bool]]]

    def muon(self, learning_rate: Any, **options: Any) -> optax.GradientTransformation:
        """The optimizer of a whole model."""
        return self.alias(learning_rate, **self.translate(options, True))

    def guarded(self, learning_rate: float) -> optax.GradientTransformation:
        """One that survives a NaN: by a policy of its own, else by optax's wrapper."""
        if "skip" in self.policies:
            return self.muon(learning_rate, on_nonfinite="skip")
        return optax.apply_if_finite(self.muon(learning_rate), max_consecutive_errors=1000)

    def scale_by_muon(self, **options: Any) -> optax.GradientTransformation:
        """The polar step alone, of matrices only."""
        return self.transform(**self.translate(options, False))

    def injected(self, learning_rate: float, **options: Any) -> optax.GradientTransformation:
        """The optimizer under `optax.inject_hyperparams`, nothing named static."""
        injected = optax.inject_hyperparams(self.alias)
        return injected(learning_rate=learning_rate, **self.translate(options, True))


def _ours(options: dict[str, Any], alias: bool) -> dict[str, Any]:
    del alias
    others = dict(options)
    if rules := others.pop("rules", ()):
        others["dims"] = (*(Rule(pattern, pattern, spec) for pattern, spec in rules), *FLAX)
    if others.pop("exact", False):
        return {"method": SVD(), **others}
    names = [name for name in ("coefficients", "steps", "eps") if name in others]
    method = {name: others.pop(name) for name in names}
    rows = method.get("coefficients")
    if isinstance(rows, tuple):
        each = bool(rows) and isinstance(rows[0], tuple)  # a row for each step
        stages, tail = (rows, "fixed") if each else ((rows,), "repeat")
        method["coefficients"] = Coefficients("rows", stages, tail, "an argument")
        method.setdefault("steps", len(rows) if each else 5)
    return {"method": NewtonSchulz(**method), **others} if method else others


def _plan(params: Any, **options: Any) -> tuple[str, dict[str, bool]]:
    table = muon_optax.plan(params, **_ours(options, True))
    return str(table), {leaf.path: leaf.optimizer == "Muon" for leaf in table.leaves}


_PRESETS = {"jordan": "standard", "you": "dion"}


def _contrib(options: dict[str, Any], alias: bool) -> dict[str, Any]:
    names = {"coefficients": "ns_coeffs", "steps": "ns_steps"}
    names["dims"] = "muon_weight_dimension_numbers" if alias else "weight_dimension_numbers"
    own = {names.get(name, name): value for name, value in options.items()}
    if own.pop("exact", False):
        raise NotOffered("no exact polar factor")
    if own.pop("rules", ()):
        raise NotOffered("no rules")
    own.pop("shardings", None)  # XLA reads them off the arrays
    if own.pop("on_nonfinite", "propagate") != "propagate":
        raise NotOffered("no policy for what is not finite")
    if isinstance(own.get("ns_coeffs"), str):
        own["ns_coeffs"] = _PRESETS.get(own["ns_coeffs"], own["ns_coeffs"])
    return own


def _no_plan(params: Any, **options: Any) -> tuple[str, dict[str, bool]]:
    raise NotOffered("nothing says who is trained how")


OURS = Library(
    "muon_optax",
    muon_optax.muon,
    muon_optax.scale_by_muon,
    _ours,
    ("propagate", "skip"),
    _plan,
)
CONTRIB = Library(
    "optax.contrib",
    optax.contrib.muon,
    optax.contrib.scale_by_muon,
    _contrib,
    ("propagate",),
    _no_plan,
)
LIBRARIES = (OURS, CONTRIB)
