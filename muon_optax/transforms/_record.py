"""A wrapper that measures the updates of a training run, every so many steps, in its state."""

from __future__ import annotations  # so that help() shows short types

from collections.abc import Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jax import Array

from muon_optax._checks import check_choice, check_integer, check_number
from muon_optax._leaves import leaves_by_path
from muon_optax._measures import MEASURES
from muon_optax.batching import Shardings, infer_shardings, replicate
from muon_optax.dims import Dims, MatrixView, matrix_views


class RecordState(NamedTuple):
    """The state of `record_updates`.

    Attributes:
      inner: The states of the momentum and of the polar step.
      count: int32 scalar, the steps done.
      step: int32 scalar, the step last recorded, counted from 0; -1 before the first.
      measured: Leaf's path → measure → float32 `[batch]`, one number for every matrix of the
        leaf; zeros before the first record.
    """

    inner: Any
    count: Array
    step: Array
    measured: Any


def record_updates(
    every: int,
    momentum: optax.GradientTransformation,
    polar_step: optax.GradientTransformation,
    *,
    measures: Sequence[str] = tuple(MEASURES),
    dims: Dims = None,
    shardings: Shardings = None,
) -> optax.GradientTransformationExtraArgs:
    """`optax.chain(momentum, polar_step)` that also measures what goes in and comes out.

    The last record stays in the state until the next one, so the state's structure never
    changes: it runs under `jax.jit`, `lax.scan` and `lax.cond`. `latest` reads it, outside.
    Steps between records pay for a branch that is not taken (under `jax.vmap` both are). A
    recorded step pays for several SVDs of every matrix. `muon(record_every=k)` is shorter.

    Args:
      every: Record at steps 0, every, 2·every, …
      momentum: From gradients to what is orthogonalized, such as `optax.ema(0.95)`.
      polar_step: From there to updates, such as `scale_by_muon(beta=0, nesterov=False)`.
      measures: Names of `MEASURES`, or one name.
      dims: Which leaf is a matrix and along which axes; see `muon_optax.dims`.
      shardings: As in `scale_by_muon`.

    Returns:
      A transformation with the same updates, whose state is a `RecordState`. A matrix that
      `on_nonfinite="skip"` leaves out is measured as the zero that it becomes.

    Raises:
      ValueError: If `every` is not a whole number ≥ 1 or a measure is unknown; at `init` and
        `update`, if a leaf is not a matrix under `dims`.

    Example:
      >>> from muon_optax import SVD, scale_by_muon
      >>> polar_step = scale_by_muon(SVD(), beta=0.0, nesterov=False)
      >>> tx = record_updates(10, optax.ema(0.95), polar_step, measures=("alignment",))
      >>> params = {"w": jnp.eye(3)}
      >>> _, state = tx.update(params, tx.init(params), params)
      >>> step, measured = latest(state)
      >>> step, measured["w"]["alignment"].round(3).tolist()
      (0, [1.0])

    Source: Kim & Oh, arXiv 2601.19156, Section 3, whose quantities these are.
    """
    names = _check_names(every, measures)
    momentum = optax.with_extra_args_support(momentum)
    polar_step = optax.with_extra_args_support(polar_step)

    def init(params: optax.Params) -> RecordState:
        inner = momentum.init(params), polar_step.init(params)
        zeros = {
            path: {name: jnp.zeros([_count(view)], jnp.float32) for name in names}
            for path, view in zip(leaves_by_path(params), matrix_views(dims, params))
        }
        # Without leaves, as optax.tree_map_params asks, a leaf stands for any dict.
        start, none = jnp.zeros([], jnp.int32), jnp.full([], -1, jnp.int32)
        return RecordState(inner, start, none, zeros or start)

    def update(
        updates: optax.Updates,
        state: Any,
        params: optax.Params | None = None,
        **extra_args: Any,
    ) -> tuple[optax.Updates, RecordState]:
        _check_state(state)
        first, second = state.inner
        blend, first = momentum.update(updates, first, params, **extra_args)
        found, second = polar_step.update(blend, second, params, **extra_args)

        def record() -> tuple[Array, Any]:
            views = dict(zip(leaves_by_path(updates), matrix_views(dims, updates)))
            trees = _replicate_all(shardings, updates, blend, found)
            return state.count, _measure(names, views, *trees) or state.measured

        due = state.count % int(every) == 0
        recorded = jax.lax.cond(due, record, lambda: (state.step, state.measured))
        count = jnp.asarray(optax.safe_increment(state.count))
        return found, RecordState((first, second), count, *recorded)

    return optax.GradientTransformationExtraArgs(init, update)


def latest(state: Any) -> tuple[int, dict[str, dict[str, np.ndarray]]]:
    """The last record in the state of any optimizer that contains `record_updates`.

    Call it outside `jax.jit`; it copies to the host. Each record replaces the one before, so
    call it at least every k steps, or return `step` and `measured` of the `RecordState` from a
    scan.

    Args:
      state: The state of `record_updates`, of `muon(..., record_every=k)`, or of a chain or
        partition that contains one; with `flax.nnx`, `optimizer.opt_state`.

    Returns:
      The step, and leaf's path → measure → `[batch]`; -1 and nothing before the first record.

    Raises:
      ValueError: If `state` has no `RecordState` or several.

    Example:
      >>> from muon_optax import muon
      >>> params = {"w": jnp.eye(3), "bias": jnp.zeros(3)}
      >>> state = muon(0.02, record_every=100).init(params)
      >>> _, state = muon(0.02, record_every=100).update(params, state, params)
      >>> latest(state)[0], list(latest(state)[1])
      (0, ['w'])

    Source: a reader of `record_updates`.
    """
    nodes = jax.tree.leaves(state, is_leaf=lambda node: isinstance(node, RecordState))
    found = [node for node in nodes if isinstance(node, RecordState)]
    if len(found) != 1:
        raise ValueError(
            f"{len(found)} records in this state; pass the state of record_updates(...), or of "
            "muon(..., record_every=k)"
        )
    step = int(found[0].step)
    if step < 0 or not isinstance(found[0].measured, dict):
        return step, {}
    return step, jax.tree.map(np.array, found[0].measured)


def _check_names(every: int, measures: Sequence[str]) -> list[str]:
    """The names of the measures, once they and `every` are known to be right."""
    allowed = (
        "a whole number in [1, 2³¹); under optax.inject_hyperparams, name it in static_args"
    )
    check_integer("every", every, 1, allowed)
    check_number("every", every, allowed, lambda e: e < 2**31)  # the count is an int32
    names = [measures] if isinstance(measures, str) else list(measures)
    for name in names:
        check_choice("measure", name, MEASURES)
    return names


def _check_state(state: Any) -> None:
    if not isinstance(state, RecordState):
        raise ValueError(
            "this state was made without recording; carry it over once: "
            "compat.transfer(state, like=tx.init(params))"
        )


def _count(view: MatrixView) -> int:
    return sum(batch for batch, _, _ in view.sides)


def _replicate_all(shardings: Shardings, gradients: Any, *trees: Any) -> list[Any]:
    """The trees on every device of the gradients' mesh, so that no measure gathers again."""
    on_mesh = infer_shardings(shardings, gradients)
    sharding = on_mesh[0] if on_mesh else None
    return [jax.tree.map(lambda x: replicate(x, sharding), t) for t in (gradients, *trees)]


def _measure(
    names: list[str], views: dict[str, MatrixView], gradients: Any, momenta: Any, polars: Any
) -> dict[str, dict[str, Array]]:
    """Leaf's path → measure → float32, one number for every matrix."""
    trees = [leaves_by_path(tree) for tree in (gradients, momenta, polars)]
    measured = {}
    for path, view in views.items():
        g, m, o = (view.to_matrices(tree[path]) for tree in trees)
        measured[path] = {
            name: jnp.concatenate([MEASURES[name](*of) for of in zip(g, m, o)])
            for name in names
        }
    return jax.tree.map(lambda x: x.astype(jnp.float32), measured)
