"""Knows how to measure the updates of a training run, every so many steps, in the state."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jax import Array
from jax.sharding import NamedSharding
from jax.typing import ArrayLike, DTypeLike

from muon_optax._checks import check_number
from muon_optax._leaves import path_name
from muon_optax._measures import MEASURES
from muon_optax.batching import Shardings, infer_shardings, replicate, replicate_unsharded
from muon_optax.dims import Dims, MatrixView, resolve
from muon_optax.polar import NewtonSchulz, PolarMethod
from muon_optax.transforms._nonfinite import OnNonfinite
from muon_optax.transforms._orthogonalize import scale_by_muon


class RecordState(NamedTuple):
    """The state of `record_muon`.

    Attributes:
      muon: The state of `scale_by_muon`, a `MuonState`.
      step: int32 scalar, the step last recorded, counted from 0; -1 before the first.
      measured: Leaf's path → measure → float32 `[batch]`, one number for every matrix of the
        leaf; zeros before the first record.
    """

    muon: Any
    step: Array
    measured: dict[str, dict[str, Array]]


def record_muon(
    every: int,
    method: PolarMethod = NewtonSchulz(),  # noqa: B008 (frozen)
    beta: ArrayLike | optax.Schedule = 0.95,
    *,
    measures: Sequence[str] = tuple(MEASURES),
    nesterov: bool = True,
    bias_correction: bool = True,
    heavy_ball: bool = False,
    mu_dtype: DTypeLike | None = None,
    dims: Dims = None,
    max_stack_bytes: int | None = None,
    shardings: Shardings = None,
    on_nonfinite: OnNonfinite = "propagate",
) -> optax.GradientTransformationExtraArgs:
    """`scale_by_muon`, with the same updates, that also records every so many steps.

    What is recorded stays in the state until the next record, so the state's structure never
    changes: it runs under `jax.jit`, `lax.scan` and `lax.cond`. `latest` reads it, outside.
    Steps between pay for a branch not taken (under `jax.vmap` both are). A recorded step pays
    for several SVDs of every matrix.

    Args:
      every: Record at steps 0, every, 2·every, …
      method: See `scale_by_muon`.
      beta: See `scale_by_muon`.
      measures: Names of `MEASURES`.
      nesterov: See `scale_by_muon`.
      bias_correction: See `scale_by_muon`.
      heavy_ball: See `scale_by_muon`.
      mu_dtype: See `scale_by_muon`.
      dims: See `scale_by_muon`.
      max_stack_bytes: See `scale_by_muon`; the measures do not heed it.
      shardings: See `scale_by_muon`.
      on_nonfinite: See `scale_by_muon`; what is skipped is measured as it came, as NaN.

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
    names = _checked(every, measures)
    configured = partial(
        scale_by_muon,
        beta=beta,
        nesterov=nesterov,
        bias_correction=bias_correction,
        heavy_ball=heavy_ball,
        mu_dtype=mu_dtype,
        dims=dims,
        max_stack_bytes=max_stack_bytes,
        shardings=shardings,
    )
    muon, blend = configured(method, on_nonfinite=on_nonfinite), configured(_AsItIs())

    def init(params: optax.Params) -> RecordState:
        state = RecordState(muon.init(params), *_no_record(names, dims, params))
        return replicate_unsharded(params, state)

    def update(
        updates: optax.Updates,
        state: Any,
        params: optax.Params | None = None,
        **extra_args: Any,
    ) -> tuple[optax.Updates, RecordState]:
        _check_state(state)
        on_mesh = infer_shardings(shardings, updates)
        polars, muon_state = muon.update(updates, state.muon, params, **extra_args)

        def record() -> tuple[Array, dict]:
            # In float32 or wider, as what `muon` orthogonalized; the momentum is taken again.
            gradients = jax.tree.map(_wide, updates)
            momenta, _ = blend.update(gradients, state.muon)
            measured = _measured(names, dims, on_mesh, gradients, momenta, polars)
            return state.muon.count, measured

        due = state.muon.count % int(every) == 0
        recorded = jax.lax.cond(due, record, lambda: (state.step, state.measured))
        return polars, RecordState(muon_state, *recorded)

    return optax.GradientTransformationExtraArgs(init, update)


def latest(state: Any) -> tuple[int, dict[str, dict[str, np.ndarray]]]:
    """What was last recorded, copied to the host, from any optimizer with `record_muon` in it.

    For use outside `jax.jit`: each record replaces the one before, so call it at least every
    k steps, or return `state.step` and `state.measured` of the `RecordState` from a scan.

    Args:
      state: The state of `record_muon`, of `muon(..., record_every=k)`, or of a chain or
        partition that contains one; with `flax.nnx`, `optimizer.opt_state`.

    Returns:
      The step, and leaf's path → measure → `[batch]`; -1 and nothing before the first record.

    Raises:
      ValueError: If no or more than one `RecordState` is in `state`.

    Example:
      >>> from muon_optax import muon
      >>> params = {"w": jnp.eye(3), "bias": jnp.zeros(3)}
      >>> state = muon(0.02, record_every=100).init(params)
      >>> _, state = muon(0.02, record_every=100).update(params, state, params)
      >>> latest(state)[0], list(latest(state)[1])
      (0, ['w'])
    """
    nodes = jax.tree.leaves(state, is_leaf=lambda node: isinstance(node, RecordState))
    found = [node for node in nodes if isinstance(node, RecordState)]
    if len(found) != 1:
        raise ValueError(
            f"{len(found)} records in this state; use the state of record_muon(...), or of "
            "muon(..., record_every=k)"
        )
    step = int(found[0].step)
    if step < 0:
        return step, {}
    copied = {
        path: {name: np.array(x) for name, x in of_leaf.items()}
        for path, of_leaf in found[0].measured.items()
    }
    return step, copied


@dataclass(frozen=True)
class _AsItIs:
    """No polar step: `scale_by_muon` then returns what it would have orthogonalized."""

    def polar(self, x: Array) -> Array:
        return x


def _checked(every: int, measures: Sequence[str]) -> list[str]:
    """The measures' names, once they and `every` are known to be in range."""
    whole = "a whole number in [1, 2^31), named in static_args of optax.inject_hyperparams"
    check_number("every", every, whole, lambda k: 1 <= k < 2**31 and k == int(k))
    names = [measures] if isinstance(measures, str) else list(measures)
    if unknown := [name for name in names if name not in MEASURES]:
        raise ValueError(f"measures={unknown}; use names of {list(MEASURES)}")
    return names


def _check_state(state: Any) -> None:
    if not isinstance(state, RecordState):
        raise ValueError(
            "this state was made without recording; make it with record_every from the "
            "first step on, or as RecordState(muon=state, ...)"
        )


def _matrices(dims: Dims, tree: Any) -> list[tuple[str, MatrixView, Array]]:
    """Path, view and array of every leaf that is a matrix."""
    leaves = jax.tree.leaves_with_path(tree)
    triples = (
        (path_name(path), view, x) for view, (path, x) in zip(resolve(dims, tree), leaves)
    )
    return [(path, view, x) for path, view, x in triples if view]


def _no_record(names: list[str], dims: Dims, params: Any) -> tuple[Array, dict]:
    return jnp.full([], -1, jnp.int32), {
        path: {name: jnp.zeros([sum(n for n, *_ in view.sides)], jnp.float32) for name in names}
        for path, view, _ in _matrices(dims, params)
    }


def _measured(
    names: list[str], dims: Dims, on_mesh: Sequence[NamedSharding] | None, *trees: Any
) -> dict[str, dict[str, Array]]:
    """The measures of every matrix, of its gradient, momentum and update."""
    measured = {}
    for triples in zip(*(_matrices(dims, tree) for tree in trees)):
        path, view, _ = triples[0]
        leaves = [x for _, _, x in triples]
        if on_mesh:  # or each measure would gather them anew
            leaves = [replicate(x, on_mesh[0]) for x in leaves]
        stacks = list(zip(*map(view.to_matrices, leaves)))
        measured[path] = {
            name: jnp.concatenate([MEASURES[name](*matrices) for matrices in stacks])
            for name in names
        }
    return _as_float32(measured)


def _as_float32(measured: dict) -> dict:
    return jax.tree.map(lambda x: x.astype(jnp.float32), measured)


def _wide(x: Array) -> Array:
    return x.astype(jnp.promote_types(x.dtype, jnp.float32))
