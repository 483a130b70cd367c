"""The state of a new optimizer, made from the moments of an old one.

A moment is a leaf under `mu` or `nu` of a node. The rest of its path is its parameter's path:

    state.inner_states["muon"].inner_state[0] .mu ["blocks"]["kernel"]
    └───────────────── node ────────────────┘     └──── parameter ───┘

A node with only `mu` belongs to Muon, one with both to Adam, and one with only `nu` to NorMuon.
"""

import functools
from collections import defaultdict
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax
from jax import Array
from jax.tree_util import DictKey, GetAttrKey, KeyPath

from muon_optax._casting import wide_dtype
from muon_optax._checks import check_number
from muon_optax._leaves import LeafError, path_name
from muon_optax.batching._resharding import place_like

_KINDS = {
    frozenset({"mu"}): "muon",
    frozenset({"mu", "nu"}): "adam",
    frozenset({"nu"}): "normuon",
}
_MULTI_STEPS_FIELDS = ("mini_step", "gradient_step", "acc_grads")

# The mean square of white noise, divided by the mean square of its average with β = 0.95.
_NOISE_RATIO = (1 + 0.95) / (1 - 0.95)


class _Moment(NamedTuple):
    """A leaf that is a moment: the `field` mu or nu of the parameter `name`, in a `node`."""

    node: KeyPath
    kind: str
    field: str
    name: str


class _OldState(NamedTuple):
    """The contents of an old state."""

    moments: dict[tuple[str, str, str], Array]  # by kind, field and parameter
    counts: dict[str, Array]  # by kind
    others: dict[str, Array]  # by path


def transfer(state: Any, like: Any, *, momentum_scale: float = 1.0) -> Any:
    """Make the state with which a new optimizer continues the run of another one.

    Moments are matched by the paths of their parameters, in any state: chains, partitions,
    `optax.contrib.muon`, AdamW, and `muon` with other `dims`.

    - A parameter that stays with Muon or Adam keeps its moments exactly.
    - From Adam to Muon, Adam's first moment becomes the momentum.
    - From Muon to Adam, the momentum becomes the first moment. The second moment starts at 39
      times the momentum's mean square over the row or over the leaf, whichever is larger. Then
      Adam's steps have their usual length where gradients are noise, and are shorter elsewhere.
    - Step counts and the state of `optax.MultiSteps` continue.
    - Everything else starts as in `like`.

    For new data, tune the learning rate again; see `docs/finetuning.md`.

    Args:
      state: The state of the old optimizer. Orbax may have restored it without a template, or
        `to_checkpoint` may have converted it. With `flax.nnx`, pass `optimizer.opt_state`.
      like: The initial state of the new optimizer, `tx.init(params)`.
      momentum_scale: A factor for every momentum that enters or leaves Muon. Pass 1-β if the
        old momentum is a heavy ball and the new one an average. Pass 1/(1-β) if the old
        momentum is an average, such as AdamW's, and the new one a heavy ball.

    Returns:
      A state with the structure, dtypes and shardings of `like`. Moments are copies, so
      this state can be donated.

    Raises:
      ValueError: If no moment of the old state fits the new one, if two moments have the same
        path, if a moment does not have the shape of its parameter, if `like` is not a state, or
        if `momentum_scale` is not positive. Also if Adam would start with one parameter while
        it continues with others.

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
        raise ValueError("`like` is a transformation; pass its state, tx.init(params)")
    old = _read(_leaves_with_path(state))
    moments = _find_moments([path for path, _ in jax.tree.leaves_with_path(like)])
    carried = {p: _carry_moment(old, moment, momentum_scale) for p, moment in moments.items()}
    known = {path: moment for path, moment in moments.items() if carried[path] is not None}
    if not known:
        raise ValueError(_no_moment_message(old, moments))
    kinds = {moment.node: moment.kind for moment in moments.values()}
    continued = {moment.node for moment in known.values()}

    def carry(path: KeyPath, leaf: Any) -> Any:
        if path in moments:
            name, value = moments[path].name, carried[path]
            if value is None:
                _check_may_start(moments[path], leaf, continued)
        else:
            name, value = path_name(path), _carry_other(old, path, kinds, continued)
        return _new_leaf(name, value, leaf)

    return jax.tree.map_with_path(carry, like)


def _carry_moment(old: _OldState, moment: _Moment, scale: float) -> Array | None:
    """Return the new moment; None if the old state has no moment for this parameter."""
    name = moment.name
    if moment.kind == "normuon":
        return old.moments.get(("normuon", "nu", name))
    momentum = old.moments.get(("muon", "mu", name))
    first = old.moments.get(("adam", "mu", name))
    if moment.field == "nu":
        if momentum is not None and first is None:
            return _second_moment(momentum, scale)
        return old.moments.get(("adam", "nu", name))
    if moment.kind == "adam" and first is not None:
        return first
    entering = first if momentum is None else momentum
    return None if entering is None else scale * entering


def _second_moment(momentum: Array, scale: float) -> Array:
    """Return Adam's second moment for a parameter that has only a momentum."""
    wide = momentum.astype(wide_dtype(momentum.dtype))
    square = jnp.abs(scale * wide) ** 2
    row = square.mean(-1, keepdims=True) if square.ndim else square
    return jnp.broadcast_to(_NOISE_RATIO * jnp.maximum(row, square.mean()), square.shape)


def _carry_other(
    old: _OldState, path: KeyPath, kinds: Mapping[KeyPath, str], continued: set[KeyPath]
) -> Array | None:
    """Return the new value of a leaf that is not a moment; None to keep that of `like`."""
    if any(_key_name(key) in _MULTI_STEPS_FIELDS for key in path):
        return old.others.get(path_name(path))
    node = _counted_node(path)
    if node is None or not old.counts:
        return None
    if node in kinds and node not in continued:  # its moments start now, and so does its count
        return None
    longest = functools.reduce(jnp.maximum, old.counts.values())
    return old.counts.get(kinds.get(node, ""), longest)


def _check_may_start(moment: _Moment, leaf: Any, continued: set[KeyPath]) -> None:
    """Refuse zero moments with a large count: Adam's first steps would be too long."""
    if moment.kind == "adam" and moment.node in continued:
        raise LeafError(
            moment.name,
            leaf,
            "not in the old state, but Adam's step count continues, so its first steps would "
            "be too long. Train it with a separate optimizer, under another label in "
            "optax.partition",
        )


def _new_leaf(name: str, value: Array | None, leaf: Any) -> Any:
    """Return a copy of the value, placed like the template's leaf; or that leaf if None."""
    if value is None:
        if isinstance(leaf, jax.ShapeDtypeStruct):
            raise LeafError(
                name,
                leaf,
                "not in the old state, and only a shape in `like`; use tx.init(params)",
            )
        return leaf
    if value.shape != leaf.shape:
        raise LeafError(name, leaf, f"it has shape {value.shape} in the old state")
    return place_like(jnp.array(value, leaf.dtype), leaf)


def _no_moment_message(old: _OldState, moments: Mapping[KeyPath, _Moment]) -> str:
    theirs = sorted({name for _, _, name in old.moments})
    ours = sorted({moment.name for moment in moments.values()})
    found = f"moments of parameters such as {theirs[:3]}" if theirs else "no moments"
    return (
        f"no moment of the old state fits the new one. The old state has {found}; the new "
        f"state has moments of parameters such as {ours[:3]}. Use the same parameter paths in "
        "both, as in transfer(old_state, like=tx.init(params))"
    )


def _leaves_with_path(state: Any) -> list[tuple[KeyPath, Any]]:
    """Return the leaves of a state, which may come from `to_checkpoint`."""
    if isinstance(state, Mapping) and {*state} == {"version", "leaves"}:
        return [
            (tuple(map(DictKey, name.split("."))), leaf)
            for name, leaf in state["leaves"].items()
        ]
    return jax.tree.leaves_with_path(state)


def _read(leaves: Sequence[tuple[KeyPath, Any]]) -> _OldState:
    found = _find_moments([path for path, _ in leaves])
    kinds = {moment.node: moment.kind for moment in found.values()}
    old = _OldState({}, {}, {})
    for path, leaf in leaves:
        node = _counted_node(path)
        if path in found:
            moment = found[path]
            key = moment.kind, moment.field, moment.name
            if key in old.moments:
                raise ValueError(
                    f"`state` has two moments of {moment.name!r}; pass only the part that "
                    "belongs to one optimizer"
                )
            old.moments[key] = leaf
        elif node in kinds:
            old.counts[kinds[node]] = leaf
        else:
            old.others[path_name(path)] = leaf
    return old


def _find_moments(paths: Sequence[KeyPath]) -> dict[KeyPath, _Moment]:
    """Return the moments among the leaves at these paths."""
    counted = {_counted_node(path) for path in paths}
    positions = {path: _field_position(path, counted) for path in paths}
    positions = {path: i for path, i in positions.items() if i is not None}
    fields = defaultdict(set)
    for path, i in positions.items():
        fields[path[:i]].add(_key_name(path[i]))
    return {
        path: _Moment(
            node=path[:i],
            kind=_KINDS[frozenset(fields[path[:i]])],
            field=_key_name(path[i]),
            name=path_name(path[i + 1 :]),
        )
        for path, i in positions.items()
    }


def _field_position(path: KeyPath, counted: set[KeyPath | None]) -> int | None:
    """Return the position of `mu` or `nu` in a path; None if the leaf is not a moment.

    In a state that was restored without a template, `mu` and `nu` are keys of a dict. They are
    moments only if the dict also has a count, because a parameter may be called `mu`, too.
    """
    for i, key in enumerate(path):
        of_state = isinstance(key, GetAttrKey) or path[:i] in counted
        if _key_name(key) in ("mu", "nu") and of_state:
            return i
    return None


def _counted_node(path: KeyPath) -> KeyPath | None:
    """Return the node whose count is at this path; None if the leaf is not a count."""
    if path and path[-1] == GetAttrKey("value"):  # a variable of `flax.nnx`
        path = path[:-1]
    return path[:-1] if path and _key_name(path[-1]) == "count" else None


def _key_name(key: Any) -> Any:
    """Return the field of a named tuple, or the key of a dict."""
    return key.name if isinstance(key, GetAttrKey) else getattr(key, "key", None)
