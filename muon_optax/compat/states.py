"""Knows how the state of one optimizer becomes that of another, parameter by parameter."""

from collections.abc import Mapping
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax import Array
from jax.tree_util import GetAttrKey, KeyPath

from muon_optax.checks import LeafError, check_number, path_name

# How much larger the mean square of white noise is than that of its average with β = 0.95.
_NOISE = (1 + 0.95) / (1 - 0.95)


class _Known(NamedTuple):
    """What a state knows: its step, and (kind, field, parameter) → array.

    A node with `mu` alone is Muon's, one with `mu` and `nu` Adam's.
    """

    count: Array | None
    moments: Mapping[tuple[str, str, str], Array]


def transfer(state: Any, like: Any, *, momentum_scale: float = 1.0) -> Any:
    """The state with which a new optimizer continues a job that another has begun.

    Whatever the states are made of (chains, partitions, `optax.contrib.muon`, AdamW, our own
    with other `dims`), moments are found by their parameters' paths. What stays with Muon or
    with Adam keeps its moments bit for bit. What goes from Adam to Muon takes its first moment,
    an average too, for its momentum. What goes from Muon to Adam keeps its momentum; its second
    moment starts as 39 times the momentum's mean square over the leaf, which is right where
    gradients are noise, and makes for shorter steps elsewhere. Steps are counted on. What the
    old state does not know begins as `like` has it.

    Args:
      state: Of the old optimizer; of `flax.nnx`, `optimizer.opt_state`.
      like: Of the new optimizer at its start, `tx.init(params)`.
      momentum_scale: What Muon's momenta are multiplied by: 1-β on the way from a heavy ball to
        an average, 1/(1-β) on the way back.

    Returns:
      A state of the structure and dtypes of `like`.

    Raises:
      ValueError: If the old state has no moments at all, or `momentum_scale` is not positive.
      LeafError: If a moment's shape is not its parameter's; a `ValueError` too.

    Example:
      >>> import optax
      >>> from muon_optax import muon
      >>> params = {"kernel": jnp.eye(3), "bias": jnp.ones(3)}
      >>> adamw = optax.adamw(1e-3)
      >>> _, old = adamw.update(params, adamw.init(params), params)
      >>> state = transfer(old, like=muon(0.02).init(params))
      >>> muon_state = state.inner_states["muon"].inner_state[0]
      >>> bool((muon_state.mu["kernel"] == old[0].mu["kernel"]).all()), int(muon_state.count)
      (True, 1)
    """
    allowed = "a number > 0, such as 1 - β"
    check_number("momentum_scale", momentum_scale, allowed, lambda s: s > 0)
    known, kinds = _known(state), _kinds(like)
    if not known.moments:
        raise ValueError(
            "no moments in this state: there is no node with mu. Pass the state of "
            "optax.contrib.muon, optax.adamw, muon, or what from_torch returns"
        )

    def filled(path: KeyPath, leaf: Array) -> Array:
        if _counts(path) and known.count is not None:
            return jnp.array(known.count, leaf.dtype)  # a copy each, for donation
        if (where := _locate(path)) is None:
            return leaf
        node, field, name = where
        found = _moment(known.moments, kinds[node], field, name, momentum_scale)
        if found is None:
            return leaf
        if found.shape != leaf.shape:
            raise LeafError(name, leaf, f"its {field} in the old state has shape {found.shape}")
        return jnp.asarray(found, leaf.dtype)

    return jax.tree.map_with_path(filled, like)


def _moment(
    moments: Mapping[tuple[str, str, str], Array],
    kind: str,
    field: str,
    name: str,
    scale: float,
) -> Array | None:
    """What the new state holds there, by what the old one knows."""
    if kind == "neuron":
        return moments.get((kind, field, name))
    muon, adam = (moments.get((old, "mu", name)) for old in ("muon", "adam"))
    scaled = None if muon is None else scale * muon
    if field == "mu":
        own, other = (scaled, adam) if kind == "muon" else (adam, scaled)
        return other if own is None else own
    if adam is not None or scaled is None:
        return moments.get(("adam", "nu", name))
    wide = jnp.abs(jnp.asarray(scaled, jnp.promote_types(scaled.dtype, jnp.float32)))
    return jnp.full(scaled.shape, _NOISE * jnp.mean(wide**2))


def _known(state: Any) -> _Known:
    moments, counts, kinds = {}, {}, _kinds(state)
    for path, leaf in jax.tree.leaves_with_path(state):
        if where := _locate(path):
            node, field, name = where
            moments[kinds[node], field, name] = leaf
        elif node := _counts(path):
            counts[node[0]] = leaf
    beside = [count for node, count in counts.items() if kinds.get(node) in ("muon", "adam")]
    return _Known(beside[0] if beside else None, moments)


def _counts(path: KeyPath) -> tuple[KeyPath] | None:
    """The node whose `count` a leaf is; nnx keeps it in a variable, with a `value`."""
    if path and path[-1] == GetAttrKey("value"):
        path = path[:-1]
    return (path[:-1],) if path and path[-1] == GetAttrKey("count") else None


def _kinds(state: Any) -> dict[KeyPath, str]:
    """Of every node with moments: Muon's, Adam's, or one of neurons, with `nu` alone."""
    fields: dict[KeyPath, set[str]] = {}
    for path, _ in jax.tree.leaves_with_path(state):
        if where := _locate(path):
            fields.setdefault(where[0], set()).add(where[1])
    kinds = {("mu",): "muon", ("mu", "nu"): "adam", ("nu",): "neuron"}
    return {node: kinds[tuple(sorted(names))] for node, names in fields.items()}


def _locate(path: KeyPath) -> tuple[KeyPath, str, str] | None:
    """The node, the field and the parameter of a leaf among moments."""
    for position, key in enumerate(path):
        if isinstance(key, GetAttrKey) and key.name in ("mu", "nu"):
            return path[:position], key.name, path_name(path[position + 1 :])
    return None
