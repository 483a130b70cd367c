"""`record_updates`: measures of the updates every few steps, kept in the optimizer's state."""

from __future__ import annotations  # so that help() shows short types

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax
from jax import Array

from muon_optax._checks import check_choice, check_integer, check_number, suggest_static
from muon_optax._leaves import leaves_by_path
from muon_optax._measures import LEVELS, MEASURES, quantiles
from muon_optax.batching import Measurement, Shardings
from muon_optax.dims import Dims, MatrixView, matrix_views
from muon_optax.polar._method import PolarMethod
from muon_optax.transforms._method_rules import MethodRules, find_methods
from muon_optax.transforms._orthogonalize import check_methods, polar_step


class RecordState(NamedTuple):
    """The state of `record_updates`.

    Attributes:
      inner: The state of the momentum.
      count: int32 scalar, the number of steps.
      step: int32 scalar, the last recorded step, counted from 0; -1 before the first record.
      measured: Path → measure → float32 `[batch]`, one number for every matrix of the leaf;
        zeros before the first record.
      quantiles: Path → float32 `[batch, 17]`, evenly spaced quantiles of the singular values of
        the polar step's input, for `diagnostics.spectra`.
    """

    inner: Any
    count: Array
    step: Array
    measured: Any
    quantiles: Any


def record_updates(
    every: int,
    momentum: optax.GradientTransformation,
    method: PolarMethod | str | MethodRules,
    *,
    measures: Sequence[str] = tuple(MEASURES),
    dims: Dims = None,
    shardings: Shardings = None,
) -> optax.GradientTransformationExtraArgs:
    """Apply a momentum and the polar step, and measure the updates every few steps.

    For `muon`, use `muon(record_every=k)` instead. `diagnostics.latest` reads the last record
    from the state. Recording works under `jax.jit`, `lax.scan` and `lax.cond`. A recorded step
    takes several SVDs of every matrix, or one SVD if `measures` is empty. Other steps cost
    almost nothing more, except under `jax.vmap`. On a mesh, the device that owns a matrix
    measures it.

    Args:
      every: Record at steps 0, every, 2·every, …
      momentum: A transformation from gradients to the polar step's input, such as
        `optax.ema(0.95)`.
      method: How to orthogonalize, as in `scale_by_muon`.
      measures: Names in `MEASURES`, or one name. `()` records only the quantiles of singular
        values.
      dims: Which leaves are matrices, and along which axes; see `muon_optax.dims`.
      shardings: As in `scale_by_muon`.

    Returns:
      A transformation with the same updates as `momentum` followed by the polar step. Its state
      is a `RecordState`. Measures are computed in float32 or wider. On a mesh, they are
      computed from matrices in the dtype that devices exchange (see `MethodPlan.wire_dtype`).
      A matrix that `on_nonfinite="skip"` skips is measured as zero.

    Raises:
      ValueError: If `every` is not a whole number ≥ 1, or if a measure is unknown; at `init`
        and `update`, if a leaf is not a matrix under `dims`.

    Example:
      >>> from muon_optax import SVD, diagnostics
      >>> tx = record_updates(10, optax.ema(0.95), SVD(), measures=("alignment",))
      >>> params = {"w": jnp.eye(3)}
      >>> _, state = tx.update(params, tx.init(params), params)
      >>> step, measured = diagnostics.latest(state)
      >>> step, round(measured["w"]["alignment"], 3)
      (0, 1.0)

    Source: Kim & Oh, arXiv 2601.19156, Section 3, for the quantities.
    """
    check_interval("every", every)
    measure = _Measures(_check_names(measures))
    methods = find_methods(method)
    momentum = optax.with_extra_args_support(momentum)

    def init(params: optax.Params) -> RecordState:
        check_methods(methods, dims, params)
        counts = dict(zip(leaves_by_path(params), map(_count, matrix_views(dims, params))))
        zeros = {path: measure.zeros(count) for path, count in counts.items()}
        spectra = {path: jnp.zeros([n, len(LEVELS)], "float32") for path, n in counts.items()}
        # optax.tree_map_params calls init without leaves: a leaf then stands for any dict.
        start, none = jnp.zeros([], jnp.int32), jnp.full([], -1, jnp.int32)
        return RecordState(momentum.init(params), start, none, zeros or start, spectra or start)

    def update(
        updates: optax.Updates,
        state: Any,
        params: optax.Params | None = None,
        **extra_args: Any,
    ) -> tuple[optax.Updates, RecordState]:
        _check_state(state)
        like = updates if params is None else params
        blend, inner = momentum.update(updates, state.inner, params, **extra_args)
        due = state.count % int(every) == 0
        measurement = Measurement(due, jax.tree.leaves(updates), measure)
        polars, _, numbers = polar_step(
            methods, dims, shardings, blend, like, measurement=measurement
        )
        measured, spectra = {}, {}
        for path, found in zip(leaves_by_path(updates), numbers):
            last = state.measured[path], state.quantiles[path]
            measured[path], spectra[path] = measure.record(due, found, *last)
        step = jnp.where(due, state.count, state.step)
        count = jnp.asarray(optax.safe_increment(state.count))
        records = measured or state.measured, spectra or state.quantiles
        return polars, RecordState(inner, count, step, *records)

    return optax.GradientTransformationExtraArgs(init, update)


@dataclass(frozen=True)
class _Measures:
    """A function that computes all measures and quantiles from gradient, input and output."""

    names: tuple[str, ...]

    def __call__(self, g: Array, m: Array, o: Array) -> Array:
        """Return float32 `[batch, measures + 17]`; the last 17 columns are quantiles."""
        found = [MEASURES[name](g, m, o)[..., None] for name in self.names]
        return jnp.concatenate([x.astype("float32") for x in (*found, quantiles(m))], -1)

    def zeros(self, count: int) -> dict[str, Array]:
        """Return the state of a leaf with `count` matrices before the first record."""
        return {name: jnp.zeros([count], jnp.float32) for name in self.names}

    def record(self, due: Array, found: Array | None, *last: Any) -> tuple[Any, Any]:
        """Return a leaf's new measures and quantiles if due, else its last ones."""
        if found is None:
            return last
        measured = {name: found[:, i] for i, name in enumerate(self.names)}
        new = measured, found[:, len(self.names) :]
        return jax.tree.map(partial(jnp.where, due), new, last)


def check_interval(name: str, every: Any) -> None:
    """Refuse anything but a positive number of steps that fits into int32."""
    allowed = f"a whole number in [1, 2³¹){suggest_static(name, every)}"
    check_integer(name, every, 1, allowed)
    check_number(name, every, allowed, lambda e: e < 2**31)


def _check_names(measures: Sequence[str]) -> tuple[str, ...]:
    """Check the names of measures, and return them as a tuple."""
    names = (measures,) if isinstance(measures, str) else tuple(measures)
    for name in names:
        check_choice("measure", name, MEASURES)
    return names


def _check_state(state: Any) -> None:
    if not isinstance(state, RecordState):
        raise ValueError(
            "the state was made without recording; convert it once: "
            "compat.transfer(state, like=tx.init(params))"
        )


def _count(view: MatrixView) -> int:
    return sum(batch for batch, _, _ in view.sides)
