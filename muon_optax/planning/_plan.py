"""`plan`: how `muon` would train each parameter, before the first step."""

from __future__ import annotations  # so that help() shows short types

import inspect
from collections.abc import Mapping, Sequence
from typing import Any

import jax
import optax
from jax.typing import DTypeLike

from muon_optax._checks import check_number
from muon_optax._keywords import check_keywords
from muon_optax._leaves import leaves_by_path
from muon_optax._muon import muon
from muon_optax.dims import (
    FLAX,
    Assignment,
    Dims,
    MatrixView,
    ResolvedDims,
    Rule,
    check_any_matrix,
    describe_doubts,
    exclude_leaves,
    lint_rules,
    resolve_once,
)
from muon_optax.dims._rules import EXCLUDED
from muon_optax.dims.layouts import is_from_layout
from muon_optax.planning._parameters import select_parameters
from muon_optax.planning._spectra import Families, Spectra, measure_spectra
from muon_optax.planning._table import LeafPlan, Plan, list_problems
from muon_optax.polar._method import PolarMethod, batched
from muon_optax.polar._newton_schulz import NewtonSchulz
from muon_optax.transforms._method_rules import (
    FoundMethods,
    MethodRules,
    check_rules,
    find_methods,
    methods_of,
)
from muon_optax.transforms._shape import shape_factor


def plan(
    params: Any,
    dims: Dims = FLAX,
    *,
    exclude: str | Sequence[str] = (),
    learning_rate: optax.ScalarOrSchedule | None = None,
    adam_learning_rate: optax.ScalarOrSchedule | None = None,
    strict: bool = False,
    why: bool = False,
    method: PolarMethod | str | MethodRules = NewtonSchulz(),  # noqa: B008 (frozen)
    shape_scaling: str = "jordan",
    spectra: Spectra | None = None,
    cosine: float = 0.9,
    families: Families = (),
    **settings: Any,
) -> Plan:
    """Show in a table how `muon` with the same arguments would train each parameter.

    Args:
      params: A tree of arrays or of `jax.ShapeDtypeStruct`s, or a `flax.nnx` model.
      dims: Any form that `muon_optax.dims` lists.
      exclude: As for `muon`.
      learning_rate: As for `muon`. If it is a number, the table shows the rate of each leaf.
      adam_learning_rate: As for `muon`. Ignored if `fallback` is given.
      strict: Whether to raise an error if a leaf is doubtful or no leaf uses one of your rules.
      why: Whether to list the rules that decided, and why leaves are doubtful.

    Other Args:
      method: As for `muon`. The table shows the number of operations.
      shape_scaling: A rule of `scale_by_shape`.
      spectra: Measured singular values, from `diagnostics.spectra`. For each leaf, the table
        then shows the factor s/a of `theory.certificate`, and the `theory.cosine` between its
        update and the exact polar factor. The column `needs` names the cheapest method that
        reaches `cosine`, such as `polar_express:5`, or "–" if no method does. To use these
        methods, pass `Plan.methods` to `muon(method=...)`.
      cosine: The cosine that the cheapest method has to reach, in (0, 1).
      families: Names in `FAMILIES` from which to choose the cheapest method; if empty, it is
        chosen from the leaf's own family.
      **settings: Other arguments of `muon`. All but `fallback` are ignored.

    Returns:
      A `Plan`; print it.

    Raises:
      ValueError: If `muon` would raise one at `init`; if `params` has no leaves; if a leaf in
        `spectra` is not a matrix with a `NewtonSchulz` method; or if `strict` is true and there
        are doubtful leaves or unused rules.
      TypeError: If a name in `settings` is not an argument of `muon`.

    Example:
      >>> import jax.numpy as jnp
      >>> params = {"up": {"kernel": jnp.ones((64, 256)), "bias": jnp.ones(256)}}
      >>> table = plan(params, learning_rate=0.02, adam_learning_rate=0.01)
      >>> [(leaf.path, leaf.optimizer, leaf.rates) for leaf in table.leaves]
      [('up/bias', 'fallback', (0.01,)), ('up/kernel', 'Muon', (0.04,))]
      >>> print(str(table).partition("1 matrix. ")[2])
      Its polar factor takes 13.1 MFLOP a step.
    """
    methods = find_methods(method)
    check_keywords("plan", settings, _known_keywords())
    params = select_parameters(params)
    resolved = resolve_once(exclude_leaves(dims, exclude), params)
    check_any_matrix(resolved, params)
    rules = [rule for rule in resolved.rules if rule.role != EXCLUDED]
    muon_rate = _shown_rate("learning_rate", learning_rate)
    fallback_rate = _rate_of_fallback(learning_rate, adam_learning_rate, settings)
    assignments = tuple(resolved.assignments.values())
    of_matrices = _views_and_methods(methods, resolved, params)
    measured = measure_spectra(spectra, of_matrices, families, cosine)

    def leaf_plan(assignment: Assignment, leaf: Any) -> LeafPlan:
        sides = assignment.view.sides if assignment.view else ()
        scales = tuple(shape_factor(shape_scaling, i, o) for _, i, o in sides)
        rate, factors = (muon_rate, scales) if sides else (fallback_rate, (1.0,))
        role, reason = _reason(assignment, rules, dims)
        _, method = of_matrices.get(assignment.path, (None, None))
        return LeafPlan(
            path=assignment.path,
            shape=tuple(leaf.shape),
            optimizer="Muon" if sides else "fallback",
            role=role,
            why=reason,
            matrices=sides,
            scales=scales,
            rates=() if rate is None else tuple(rate * factor for factor in factors),
            flops=_flops(method, sides, leaf.dtype) if method else 0,
            doubt=assignment.doubt,
            method=method,
            **measured.get(assignment.path, {}),
        )

    leaves = tuple(map(leaf_plan, assignments, jax.tree.leaves(params)))
    unused = tuple(lint_rules(rules, assignments))
    advice = describe_doubts(_without_unused(resolved), leaves_by_path(params))
    problems = list_problems(unused, advice)
    if strict and problems:
        raise ValueError("\n".join(problems))
    return Plan(leaves, unused, advice, why)


def _without_unused(resolved: ResolvedDims) -> ResolvedDims:
    """Leave out the user's rules that no leaf uses, so that the advice does not repeat them."""
    used = [found.rule for found in resolved.assignments.values()]
    rules = tuple(rule for rule in resolved.rules if rule in used or is_from_layout(rule))
    return ResolvedDims(resolved.assignments, rules)


def _known_keywords() -> set[str]:
    """Return the arguments of `plan` and of `muon`."""
    names = {name for f in (plan, muon) for name in inspect.signature(f).parameters}
    return names - {"settings"}


def _shown_rate(name: str, rate: optax.ScalarOrSchedule | None) -> float | None:
    """Return a learning rate as a float; None if there is none or it is a schedule."""
    if rate is None or callable(rate):
        return None
    if isinstance(rate, jax.Array) and not rate.ndim:
        rate = float(rate)
    check_number(name, rate, "a number ≥ 0, or a schedule", lambda r: r >= 0)
    return float(rate)


def _rate_of_fallback(
    learning_rate: optax.ScalarOrSchedule | None,
    adam_learning_rate: optax.ScalarOrSchedule | None,
    settings: Mapping[str, Any],
) -> float | None:
    """Return AdamW's learning rate; None if there is another fallback."""
    rate = learning_rate if adam_learning_rate is None else adam_learning_rate
    shown = _shown_rate("adam_learning_rate", rate)
    return None if settings.get("fallback") is not None else shown


def _reason(assignment: Assignment, rules: Sequence[Rule], dims: Dims) -> tuple[str, str]:
    """Return the role of a leaf, and the rule, evidence or spec that decided it."""
    view, rule = assignment.view, assignment.rule
    if rule is None:
        spec = view.spec if view else None
        why = "every leaf is a matrix" if dims is None else f"a spec, {spec!r}"
        return ("matrix" if view else "not a matrix"), f"dims: {why}"
    if assignment.evidence or rule.role == EXCLUDED:
        return rule.role, assignment.evidence or "the argument exclude"
    number = f"rule {rules.index(rule) + 1}, " if rule in rules else ""
    return rule.role, f"{number}{rule.pattern or 'any path'} → {rule.spec}"


def _views_and_methods(
    methods: FoundMethods, resolved: ResolvedDims, params: Any
) -> dict[str, tuple[MatrixView, PolarMethod]]:
    """Return the view and the method of each leaf that Muon trains, by path."""
    views = {path: found.view for path, found in resolved.assignments.items() if found.view}
    leaves = leaves_by_path(params)
    matrices = {path: leaves[path] for path in views}
    check_rules(methods, matrices, params)
    found = methods_of(methods, matrices)
    return dict(zip(views, zip(views.values(), found)))


def _flops(method: PolarMethod, sides: tuple, dtype: DTypeLike) -> float | None:
    """Return the operations of one step; None if the method does not count them."""
    total = 0
    for count, fan_in, fan_out in sides:
        m, n = sorted((fan_in, fan_out))
        plan = batched(method).plan(m, n, dtype, "cpu")
        if plan.is_guess:
            return None
        total += count * plan.flops
    return total
