"""Knows how to measure the updates of a training run, every so many steps, in the state."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax
from jax import Array
from jax.typing import ArrayLike

from muon_optax.checks import check_number, path_name
from muon_optax.diagnostics.measures import MEASURES
from muon_optax.dims import Dims, resolve
from muon_optax.polar import NewtonSchulz, PolarMethod
from muon_optax.transform import scale_by_muon


class RecordState(NamedTuple):
    """The state of `record_muon`.

    Attributes:
      muon: The state of `scale_by_muon`, a `MuonState`.
      step: int32 scalar, the step last recorded, counted from 0; -1 before the first.
      measured: Measure → a tree like the parameters, of float32 `[batch]`: one number for
        every matrix of a leaf. NaN before the first record.
    """

    muon: optax.OptState
    step: Array
    measured: dict[str, Any]


def record_muon(
    every: int,
    method: PolarMethod = NewtonSchulz(),  # noqa: B008 (frozen)
    beta: ArrayLike | optax.Schedule = 0.95,
    *,
    measures: Sequence[str] = tuple(MEASURES),
    dims: Dims = None,
    **options: Any,
) -> optax.GradientTransformationExtraArgs:
    """`scale_by_muon`, with the same updates, that also records every so many steps.

    What is recorded stays in the state until the next record, so the state's structure never
    changes: it runs under `jax.jit`, `lax.scan` and `lax.cond`, and `latest` reads it. Steps
    between pay for a branch not taken. A recorded step pays for several SVDs of every matrix.

    Args:
      every: Record at steps 0, every, 2·every, …
      method: See `scale_by_muon`.
      beta: See `scale_by_muon`.
      measures: Names of `MEASURES`.
      dims: See `scale_by_muon`.
      **options: The other arguments of `scale_by_muon`.

    Returns:
      A transformation whose state is a `RecordState`.

    Raises:
      ValueError: If `every` is not a whole number ≥ 1 or a measure is unknown; and what
        `scale_by_muon` raises.

    Example:
      >>> from muon_optax import SVD
      >>> tx = record_muon(every=10, method=SVD(), measures=("alignment",))
      >>> params = {"w": jnp.eye(3)}
      >>> _, state = tx.update(params, tx.init(params), params)
      >>> step, measured = latest(state)
      >>> step, measured["w"]["alignment"].round(3).tolist()
      (0, [1.0])
    """
    whole = "a whole number ≥ 1, named in static_args of optax.inject_hyperparams"
    check_number("every", every, whole, lambda k: k >= 1 and k == int(k))
    if unknown := [name for name in measures if name not in MEASURES]:
        raise ValueError(f"measures={unknown}; use names of {list(MEASURES)}")
    muon = scale_by_muon(method, beta, dims=dims, **options)
    blend = scale_by_muon(_AsItIs(), beta, dims=dims, **options)

    def init(params: optax.Params) -> RecordState:
        unknown_yet = _per_matrix(lambda x: jnp.full(x.shape[:1], jnp.nan), dims, params)
        measured = dict.fromkeys(measures, unknown_yet)
        return RecordState(muon.init(params), jnp.full([], -1, jnp.int32), measured)

    def update(
        updates: optax.Updates,
        state: Any,
        params: optax.Params | None = None,
        **extra_args: Any,
    ) -> tuple[optax.Updates, RecordState]:
        polars, muon_state = muon.update(updates, state.muon, params, **extra_args)

        def record() -> tuple[Array, dict[str, Any]]:
            # In float32 or wider, as what `muon` orthogonalized; the momentum is taken again.
            gradients = jax.tree.map(_wide, updates)
            momenta, _ = blend.update(gradients, state.muon)
            trees = gradients, momenta, polars
            measured = {name: _per_matrix(MEASURES[name], dims, *trees) for name in measures}
            return state.muon.count, measured

        def keep() -> tuple[Array, dict[str, Any]]:
            return state.step, state.measured

        step, measured = jax.lax.cond(state.muon.count % every == 0, record, keep)
        return polars, RecordState(muon_state, step, measured)

    return optax.GradientTransformationExtraArgs(init, update)


def latest(state: Any) -> tuple[int, dict[str, dict[str, Array]]]:
    """What was last recorded, from the state of any optimizer with `record_muon` in it.

    Args:
      state: The state of `record_muon`, `muon(..., record_every=k)`, or a chain or partition
        that contains one.

    Returns:
      The step, -1 where nothing is recorded yet, and leaf's path → measure → `[batch]`.

    Raises:
      ValueError: If no or more than one `RecordState` is in `state`.

    Example:
      >>> from muon_optax import muon
      >>> params = {"w": jnp.eye(3), "bias": jnp.zeros(3)}
      >>> state = muon(0.02, record_every=100).init(params)
      >>> latest(state)[0], list(latest(state)[1])
      (-1, ['w'])
    """
    nodes = jax.tree.leaves(state, is_leaf=lambda node: isinstance(node, RecordState))
    found = [node for node in nodes if isinstance(node, RecordState)]
    if len(found) != 1:
        raise ValueError(
            f"{len(found)} records in this state; use the state of record_muon(...), or of "
            "muon(..., record_every=k)"
        )
    by_leaf: dict[str, dict[str, Array]] = {}
    for name, tree in found[0].measured.items():
        for path, value in jax.tree.leaves_with_path(tree):
            by_leaf.setdefault(path_name(path), {})[name] = value
    return int(found[0].step), by_leaf


@dataclass(frozen=True)
class _AsItIs:
    """No polar step: `scale_by_muon` then returns what it would have orthogonalized."""

    def polar(self, x: Array) -> Array:
        return x


def _per_matrix(function: Callable[..., Array], dims: Dims, *trees: Any) -> Any:
    """`function` of the trees' leaves as `[batch, m, n]`; a tree of float32 `[batch]`."""
    views = resolve(dims, trees[0])
    leaves = zip(*map(jax.tree.leaves, trees))
    results = [function(*map(view.to_matrices, xs)) for view, xs in zip(views, leaves) if view]
    return jax.tree.structure(trees[0]).unflatten([r.astype(jnp.float32) for r in results])


def _wide(x: Array) -> Array:
    return x.astype(jnp.promote_types(x.dtype, jnp.float32))
