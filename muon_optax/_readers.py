"""Functions that read an optimizer's state: the last record, and Muon's momentum."""

from __future__ import annotations  # so that help() shows short types

from typing import Any

import jax
import numpy as np
import optax.contrib
from jax import Array

from muon_optax._leaves import leaves_by_path
from muon_optax.transforms._momentum import MuonState
from muon_optax.transforms._record import RecordState


def latest(state: Any) -> tuple[int, dict[str, dict[str, float | np.ndarray]]]:
    """Return the last record in the state of an optimizer that contains `record_updates`.

    Call this function outside `jax.jit`, because it copies to the host. Each record replaces
    the previous one. To see every record, call this function at least every k steps, or return
    the `RecordState` from a scan.

    Args:
      state: The state of `record_updates`, of `muon(..., record_every=k)`, or of a chain or
        partition that contains one of them. With `flax.nnx`, pass `optimizer.opt_state`.

    Returns:
      The step, and a dict path → measure → result. The result is a float for a leaf with one
      matrix, else a float32 array `[batch]`. Before the first record, the step is -1 and the
      dict is empty.

    Raises:
      ValueError: If `state` does not contain exactly one `RecordState`.

    Example:
      >>> import jax.numpy as jnp
      >>> from muon_optax import SVD, muon
      >>> params = {"w": jnp.eye(3), "bias": jnp.zeros(3)}
      >>> tx = muon(0.02, SVD(), record_every=100)
      >>> _, state = tx.update(params, tx.init(params), params)
      >>> step, measured = latest(state)
      >>> step, round(measured["w"]["alignment"], 3)
      (0, 1.0)

    Source: the state of `record_updates`.
    """
    record = _only(state, RecordState, "records", _ONE_RECORD)
    step = int(record.step)
    if step < 0 or not isinstance(record.measured, dict):
        return step, {}
    return step, {
        path: {name: _plain(np.array(numbers)) for name, numbers in of_leaf.items()}
        for path, of_leaf in record.measured.items()
    }


def flat(state: Any) -> dict[str, float]:
    """Return the last record as a flat dict of floats, for a logger.

    Args:
      state: As in `latest`.

    Returns:
      A dict from `"measure/path"` to a float. For a leaf with several matrices, the keys are
      `"measure/path/min"`, `"measure/path/mean"` and `"measure/path/max"`. Before the first
      record, the dict is empty.

    Raises:
      ValueError: As in `latest`.

    Example:
      >>> import jax.numpy as jnp
      >>> from muon_optax import muon
      >>> params = {"up": {"kernel": jnp.eye(3)}}
      >>> tx = muon(0.02, record_every=100)
      >>> _, state = tx.update(params, tx.init(params), params)
      >>> flat(state)["gradient_cosine/up/kernel"]
      1.0

    Source: the state of `record_updates`.
    """
    found = {}
    for path, of_leaf in latest(state)[1].items():
        for name, numbers in of_leaf.items():
            key = "/".join(filter(None, (name, path)))
            if not isinstance(numbers, np.ndarray):
                found[key] = numbers
            elif numbers.size:
                found |= {f"{key}/{f}": float(getattr(numbers, f)()) for f in _SUMMARIES}
    return found


def momentum(state: Any) -> dict[str, Array]:
    """Return the momentum from the state of an optimizer that contains Muon.

    Args:
      state: The state of `muon`, `scale_by_muon`, `compat.muon`, `optax.contrib.muon` or
        `record_updates`, or of a chain, partition or wrapper that contains one of them. With
        `flax.nnx`, pass `optimizer.opt_state`.

    Returns:
      A dict from paths to arrays of the parameters' shapes, in the momentum's dtype. These are
      the arrays of the state, not copies: a step that donates the state deletes them.

    Raises:
      ValueError: If `state` does not contain exactly one state of Muon.

    Example:
      >>> import jax.numpy as jnp
      >>> from muon_optax import muon
      >>> params = {"up": {"kernel": jnp.ones((3, 4)), "bias": jnp.zeros(4)}}
      >>> {path: mu.shape for path, mu in momentum(muon(0.02).init(params)).items()}
      {'up/kernel': (3, 4)}

    Source: the state of `scale_by_muon`.
    """
    fields = {MuonState: "mu", optax.contrib.MuonState: "mu"}
    node = _only(state, (*fields, RecordState), "momenta of Muon", _ONE_MUON)
    if isinstance(node, RecordState):  # its momentum may be one of Optax
        fields |= {optax.EmaState: "ema", optax.TraceState: "trace"}
        node = _only(node.inner, (*fields,), "momenta of Muon", _ONE_MUON)
    return leaves_by_path(getattr(node, fields[type(node)]))


def recorded_quantiles(state: Any) -> dict[str, np.ndarray] | None:
    """Return path → quantiles `[batch, 17]` of the last record; None without `RecordState`."""
    if not _find(state, RecordState):
        return None
    record = _only(state, RecordState, "records", _ONE_RECORD)
    if int(record.step) < 0 or not isinstance(record.quantiles, dict):
        return {}
    return {path: np.asarray(found) for path, found in record.quantiles.items()}


_ONE_RECORD = "the state of record_updates(...), or of muon(..., record_every=k)"
_ONE_MUON = (
    "the state of one muon(...), scale_by_muon(...) or optax.contrib.muon(...). If there are "
    "several, pass the part that belongs to one of them, such as state.inner_states['muon']"
)
_SUMMARIES = ("min", "mean", "max")


def _plain(numbers: np.ndarray) -> float | np.ndarray:
    """Return a float if there is only one number, else the array."""
    return numbers.item() if numbers.size == 1 else numbers


def _only(state: Any, kinds: type | tuple[type, ...], what: str, advice: str) -> Any:
    """Return the only node of these kinds. If there is not exactly one, raise an error."""
    found = _find(state, kinds)
    if len(found) != 1:
        raise ValueError(f"this state has {len(found)} {what} instead of 1; pass {advice}")
    return found[0]


def _find(state: Any, kinds: type | tuple[type, ...]) -> list[Any]:
    nodes = jax.tree.leaves(state, is_leaf=lambda node: isinstance(node, kinds))
    return [node for node in nodes if isinstance(node, kinds)]
