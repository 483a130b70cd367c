"""Knows who is trained how, before the first step."""

import inspect
from collections.abc import Mapping
from typing import Any

import jax
import optax
from jax.typing import DTypeLike

from muon_optax._checks import check_number
from muon_optax._muon import muon
from muon_optax.dims import FLAX, Assignment, Dims, Rule, assign, check_trains
from muon_optax.planning._lint import find_doubt, unused_rules
from muon_optax.planning._table import LeafPlan as LeafPlan
from muon_optax.planning._table import Plan as Plan
from muon_optax.polar._method import PolarMethod, check_method
from muon_optax.polar._newton_schulz import NewtonSchulz
from muon_optax.transforms._shape import shape_factor


def plan(
    params: Any,
    dims: Dims = FLAX,
    *,
    method: PolarMethod = NewtonSchulz(),  # noqa: B008 (frozen)
    shape_scaling: str = "jordan",
    learning_rate: optax.ScalarOrSchedule | None = None,
    adam_learning_rate: optax.ScalarOrSchedule | None = None,
    strict: bool = False,
    **settings: Any,
) -> Plan:
    """Who would be trained how by `muon` with the same arguments, leaf by leaf.

    Args:
      params: A tree of arrays or, from `jax.eval_shape`, of shapes.
      dims: See `muon_optax.dims`.
      method: Whose operations are counted.
      shape_scaling: A rule of `scale_by_shape`.
      learning_rate: Muon's; with a number the table has every matrix's own. What a schedule
        gives is not shown.
      adam_learning_rate: The fallback's; None for `learning_rate`. A `fallback` of one's own
        has its own, which is not shown.
      strict: Whether a doubtful leaf is an error. Only what a rule of `LAYOUTS` has decided is
        doubted: a matrix with one side over 20 times the other, a convolution of one channel, a
        bias or a gain among the matrices, a fused kernel, a `weight` that may be `[out, in]`.
        So are rules of your own that decide nothing.
      **settings: What else `muon` takes, so that one dict serves for both; it changes nothing
        here.

    Returns:
      A `Plan`.

    Raises:
      ValueError: What `muon` raises at `init`: if a leaf has no role, or no leaf is a matrix;
        and, if strict, where something is doubtful.

    Example:
      >>> import jax.numpy as jnp
      >>> params = {"up": {"kernel": jnp.ones((64, 256)), "bias": jnp.ones(256)}}
      >>> table = plan(params, learning_rate=0.02, adam_learning_rate=3e-3)
      >>> [(leaf.path, leaf.optimizer, leaf.rates) for leaf in table.leaves]
      [('up/bias', 'fallback', (0.003,)), ('up/kernel', 'Muon', (0.04,))]
      >>> print(str(table).splitlines()[5])
      Muon trains 16,384 of 16,640 parameters: 1 matrix.
    """
    check_method(method)
    _check_known(settings)
    if callable(dims):
        dims = dims(params)
    rest = learning_rate if adam_learning_rate is None else adam_learning_rate
    muon_rate = _number("learning_rate", learning_rate)
    rest = None if settings.get("fallback") else _number("adam_learning_rate", rest)
    assignments = assign(dims, params)
    paths = {assignment.path for assignment in assignments}
    check_trains([assignment.view for assignment in assignments])

    def leaf_plan(assignment: Assignment, leaf: Any) -> LeafPlan:
        sides = assignment.view.sides if assignment.view else ()
        scales = tuple(shape_factor(shape_scaling, i, o) for _, i, o in sides)
        rate, factors = (muon_rate, scales) if sides else (rest, (1.0,))
        return LeafPlan(
            path=assignment.path,
            shape=tuple(leaf.shape),
            optimizer="Muon" if sides else "fallback",
            **_reason(assignment, dims),
            matrices=sides,
            scales=scales,
            rates=() if rate is None else tuple(rate * factor for factor in factors),
            flops=_flops(method, sides, leaf.dtype),
            doubt=find_doubt(assignment, paths),
        )

    leaves = tuple(map(leaf_plan, assignments, jax.tree.leaves(params)))
    rules = dims if isinstance(dims, tuple | list) else ()
    made = Plan(leaves, tuple(unused_rules(rules, assignments)))
    if strict and (made.doubts or made.unused):
        doubts = [f"doubtful: {leaf.path} {leaf.shape}: {leaf.doubt}" for leaf in made.doubts]
        advice = (
            "put a rule for each doubtful leaf in front, dims=(Rule('mine', r'path$', 'in "
            "out'), *FLAX), with None in place of 'in out' for the fallback"
        )
        raise ValueError("\n".join([*doubts, *made.unused, *[advice] * bool(doubts)]))
    return made


def _number(name: str, rate: optax.ScalarOrSchedule | None) -> float | None:
    """A rate that can be shown."""
    if rate is None or callable(rate):
        return None
    if isinstance(rate, jax.Array) and not rate.ndim:
        rate = float(rate)
    check_number(name, rate, "a number ≥ 0, or a schedule", lambda r: r >= 0)
    return float(rate)


def _check_known(settings: Mapping[str, Any]) -> None:
    """Refuse what `muon` would not take."""
    known = {*inspect.signature(muon).parameters}
    if unknown := sorted({*settings} - known):
        raise ValueError(f"{unknown} are no arguments of muon; there are {sorted(known)}")


def _reason(assignment: Assignment, dims: Dims) -> dict[str, str]:
    """The role of a leaf, and which rule or spec gave it."""
    view, rule = assignment.view, assignment.rule
    if rule is None:
        said = "every leaf is a matrix" if dims is None else f"a spec, {view and view.spec!r}"
        return {"role": "matrix" if view else "no matrix", "why": f"dims: {said}"}
    number = 1 + (0 if isinstance(dims, Rule) else dims.index(rule))
    return {
        "role": rule.role,
        "why": f"rule {number}, {rule.pattern or 'any path'} → {rule.spec}",
    }


def _flops(method: PolarMethod, sides: tuple, dtype: DTypeLike) -> int | None:
    """Of one step, where the method has a `plan` as `NewtonSchulz` does."""
    planned = getattr(method, "plan", None)
    if planned is None:
        return None
    plans = [planned(m, n, dtype, "cpu") for _, m, n in sides]
    return None if None in plans else sum(n * p.flops for (n, *_), p in zip(sides, plans))
