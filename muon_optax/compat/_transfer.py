"""Knows how the state of one optimizer becomes that of another, parameter by parameter."""

import functools
from collections.abc import Iterable, Mapping
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax
from jax import Array
from jax.tree_util import GetAttrKey, KeyPath

from muon_optax._casting import wide_dtype
from muon_optax._checks import check_number
from muon_optax._leaves import LeafError, path_name

# How much larger the mean square of white noise is than that of its average with β = 0.95.
_NOISE = (1 + 0.95) / (1 - 0.95)
_OF_MULTI_STEPS = ("mini_step", "gradient_step", "acc_grads")


class _Place(NamedTuple):
    """Where a moment stands: in which node, `mu` or `nu`, of which parameter."""

    node: KeyPath
    field: str
    name: str


class _Known(NamedTuple):
    """What a state knows: (kind, field, parameter) → moment, kind → step, the rest by path."""

    moments: Mapping[tuple[str, str, str], Array]
    counts: Mapping[str, Array]
    others: Mapping[str, Array]


def transfer(state: Any, like: Any, *, momentum_scale: float = 1.0) -> Any:
    """The state with which a new optimizer continues a job that another has begun.

    Whatever the states are made of (chains, partitions, `optax.contrib.muon`, AdamW, our own
    with other `dims`), moments are found by their parameters' paths. What stays with Muon or
    with Adam keeps its moments bit for bit. What goes from Adam to Muon takes its first moment,
    an average too, for its momentum. What goes from Muon to Adam keeps its momentum; its second
    moment starts as 39 times the momentum's mean square, of the row or of the leaf, whichever
    is larger: right where gradients are noise, shorter steps elsewhere. Steps are counted on,
    those of `optax.MultiSteps` too. What the old state does not know begins as `like` has it.

    Args:
      state: Of the old optimizer, or as Orbax restores it without a template; of `flax.nnx`,
        `optimizer.opt_state`.
      like: Of the new optimizer at its start, `tx.init(params)`.
      momentum_scale: What a momentum that leaves or enters Muon is multiplied by: 1-β on the
        way from a heavy ball to an average, 1/(1-β) on the way back, from AdamW too.

    Returns:
      A state of the structure and dtypes of `like`.

    Raises:
      ValueError: If no moment of the old state has a place in the new one, two have one
        path, `like` is no state, or `momentum_scale` is not positive.
      LeafError: If a moment's shape is not its parameter's, or Adam would begin with a
        parameter in the middle of its count; a `ValueError` too.

    Example:
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
    if isinstance(like, optax.GradientTransformation):
        raise ValueError("like is a transformation; use its state, tx.init(params)")
    known, places = _known(state), _places(like)
    kinds = _kinds(places.values())
    moments = {p: _moment(known, kinds[p.node], p, momentum_scale) for p in places.values()}
    _check_found(moments, known)
    begun = {place.node for place, moment in moments.items() if moment is not None}

    def filled(path: KeyPath, leaf: Array) -> Array:
        if place := places.get(path):
            new, name = moments[place], place.name
            if new is None and kinds[place.node] == "adam" and place.node in begun:
                problem = "the old state knows nothing of it, but of others in Adam's count"
                raise LeafError(name, leaf, f"{problem}; give it an optimizer of its own")
        else:
            new, name = _other(path, known, kinds, begun), path_name(path)
        if new is None and isinstance(leaf, jax.ShapeDtypeStruct):
            raise LeafError(name, leaf, "nothing is known of it; use like=tx.init(params)")
        if new is not None and new.shape != leaf.shape:
            raise LeafError(name, leaf, f"in the old state it has shape {new.shape}")
        return leaf if new is None else jnp.array(new, leaf.dtype)  # a copy, for donation

    return jax.tree.map_with_path(filled, like)


def _moment(known: _Known, kind: str, place: _Place, scale: float) -> Array | None:
    """What the new state holds there, by what the old one knows."""
    name, moments = place.name, known.moments
    if kind == "neuron":
        return moments.get((kind, "nu", name))
    muon, adam = (moments.get((old, "mu", name)) for old in ("muon", "adam"))
    if place.field == "mu":
        if kind == "adam" and adam is not None:
            return adam
        entering = adam if muon is None else muon
        return None if entering is None else scale * entering
    if adam is not None or muon is None:
        return moments.get(("adam", "nu", name))
    square = jnp.abs(scale * muon.astype(wide_dtype(muon.dtype))) ** 2
    row = square.mean(-1, keepdims=True) if square.ndim else square
    return jnp.broadcast_to(_NOISE * jnp.maximum(row, square.mean()), square.shape)


def _other(path: KeyPath, known: _Known, kinds: dict, begun: set[KeyPath]) -> Array | None:
    """What is no moment: a count, unless its node begins anew; or of `optax.MultiSteps`."""
    path = _without_value(path)
    if path and _key(path[-1]) == "count":
        kind = kinds.get(path[:-1])
        if not known.counts or (kind and path[:-1] not in begun):
            return None
        return known.counts.get(
            kind or "", functools.reduce(jnp.maximum, known.counts.values())
        )
    if any(_key(key) in _OF_MULTI_STEPS for key in path):
        return known.others.get(_plain(path))
    return None


def _check_found(moments: Mapping[_Place, Array | None], known: _Known) -> None:
    if any(moment is not None for moment in moments.values()):
        return
    theirs = sorted({name for _, _, name in known.moments})
    ours = sorted({place.name for place in moments})
    raise ValueError(
        f"no moment of the old state, of {theirs[:3]} and others, has a place in the new one, "
        f"of {ours[:3]} and others. Pass transfer(old_state, like=tx.init(params)), with "
        "parameters of the same paths; moments are those of optax.contrib.muon, optax.adamw, "
        "muon, and what from_torch returns"
    )


def _known(state: Any) -> _Known:
    places, moments, counts, others = _places(state), {}, {}, {}
    kinds = _kinds(places.values())
    for path, leaf in jax.tree.leaves_with_path(state):
        plain = _without_value(path)
        if place := places.get(path):
            where = kinds[place.node], place.field, place.name
            if where in moments:
                raise ValueError(
                    f"two moments of {place.name!r} in this state; pass one's node"
                )
            moments[where] = leaf
        elif kind := plain and _key(plain[-1]) == "count" and kinds.get(plain[:-1]):
            counts[kind] = leaf
        else:
            others[_plain(path)] = leaf
    return _Known(moments, counts, others)


def _kinds(places: Iterable[_Place]) -> dict[KeyPath, str]:
    """Of every node with moments: Muon's, Adam's, or one of neurons, with `nu` alone."""
    fields: dict[KeyPath, set[str]] = {}
    for node, field, _ in places:
        fields.setdefault(node, set()).add(field)
    kinds = {("mu",): "muon", ("mu", "nu"): "adam", ("nu",): "neuron"}
    return {node: kinds[tuple(sorted(names))] for node, names in fields.items()}


def _places(state: Any) -> dict[KeyPath, _Place]:
    """Of every leaf that is a moment."""
    # In a state restored without a template `mu` is a key of a dict, as it may be in a tree
    # of parameters: there it needs a count beside it.
    paths = [path for path, _ in jax.tree.leaves_with_path(state)]
    plain = map(_without_value, paths)
    counted = {path[:-1] for path in plain if path and _key(path[-1]) == "count"}
    places = {}
    for path in paths:
        for position, key in enumerate(path):
            node, field = path[:position], _key(key)
            if field in ("mu", "nu") and (isinstance(key, GetAttrKey) or node in counted):
                places[path] = _Place(node, field, path_name(path[position + 1 :]))
                break
    return places


def _key(key: Any) -> Any:
    """Of a named tuple, or of the dict that it is once restored without a template."""
    return key.name if isinstance(key, GetAttrKey) else getattr(key, "key", None)


def _without_value(path: KeyPath) -> KeyPath:
    """Nnx keeps a leaf in a variable, with a `value`."""
    return path[:-1] if path and path[-1] == GetAttrKey("value") else path


def _plain(path: KeyPath) -> str:
    return jax.tree_util.keystr(_without_value(path), simple=True, separator="/")
