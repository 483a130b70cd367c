"""Knows who is trained how, before the first step."""

from typing import Any

import jax
from jax.typing import DTypeLike

from muon_optax.checks import check_number
from muon_optax.dims import FLAX, Assignment, Dims, Rule, assign, check_trains
from muon_optax.planning.doubts import find_doubt
from muon_optax.planning.table import LeafPlan as LeafPlan
from muon_optax.planning.table import Plan as Plan
from muon_optax.polar import NewtonSchulz, PolarMethod, check_method
from muon_optax.scaling import shape_factor


def plan(
    params: Any,
    dims: Dims = FLAX,
    *,
    method: PolarMethod = NewtonSchulz(),  # noqa: B008 (frozen)
    shape_scaling: str = "jordan",
    learning_rate: float | None = None,
    adam_learning_rate: float | None = None,
    strict: bool = False,
) -> Plan:
    """Who would be trained how by `muon` with the same arguments, leaf by leaf.

    Args:
      params: A tree of arrays or, from `jax.eval_shape`, of shapes.
      dims: See `muon_optax.dims`.
      method: Whose operations are counted.
      shape_scaling: A rule of `scale_by_shape`.
      learning_rate: Muon's, a number; with it the table has every matrix's own.
      adam_learning_rate: The fallback's; None for `learning_rate`.
      strict: Whether a doubtful leaf is an error. Only what a rule of `LAYOUTS` has decided is
        doubted: a matrix with one side over 20 times the other, a convolution of one channel, a
        bias or a gain among the matrices.

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
    _check_rates(learning_rate=learning_rate, adam_learning_rate=adam_learning_rate)
    if callable(dims):
        dims = dims(params)
    rest = learning_rate if adam_learning_rate is None else adam_learning_rate
    assignments = assign(dims, params)
    check_trains([assignment.view for assignment in assignments])

    def leaf_plan(assignment: Assignment, leaf: Any) -> LeafPlan:
        sides = assignment.view.sides if assignment.view else ()
        scales = tuple(shape_factor(shape_scaling, i, o) for _, i, o in sides)
        rate, factors = (learning_rate, scales) if sides else (rest, (1.0,))
        return LeafPlan(
            path=assignment.path,
            shape=tuple(leaf.shape),
            optimizer="Muon" if sides else "fallback",
            **_reason(assignment, dims),
            matrices=sides,
            scales=scales,
            rates=() if rate is None else tuple(rate * factor for factor in factors),
            flops=_flops(method, sides, leaf.dtype),
            doubt=find_doubt(assignment),
        )

    made = Plan(tuple(map(leaf_plan, assignments, jax.tree.leaves(params))))
    if strict and made.doubts:
        said = "\n".join(f"  {leaf.path} {leaf.shape}: {leaf.doubt}" for leaf in made.doubts)
        raise ValueError(
            f"doubtful leaves:\n{said}\nput a rule for each in front, dims=(Rule('mine', "
            "r'path$', 'in out'), *FLAX), with None in place of 'in out' for the fallback"
        )
    return made


def _check_rates(**rates: float | None) -> None:
    for name, rate in rates.items():
        if rate is not None:
            allowed = "a number ≥ 0; of a schedule, its value at a step"
            check_number(name, rate, allowed, lambda r: r >= 0)


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
    return sum(batch * planned(matrix, dtype).flops for batch, *matrix in sides)
