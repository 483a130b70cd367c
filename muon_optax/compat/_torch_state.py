"""The moments in the `state_dict` of a PyTorch optimizer.

    {"state": {0: {"momentum_buffer": tensor}}, "param_groups": [{"params": [0], …}]}

The keys of `"state"` are numbers, or parameter names if a wrapper such as FSDP saved the state.
"""

import math
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax

from muon_optax._checks import check_integer
from muon_optax._leaves import LeafError, leaves_by_path
from muon_optax.dims import FLAX
from muon_optax.transforms._momentum import MuonState

# The names of moments in torch.optim, Keller Jordan's Muon and Moonlight.
_FIELDS = {
    "momentum_buffer": "momentum",
    "exp_avg": "first",
    "moment1": "first",
    "exp_avg_sq": "second",
    "moment2": "second",
}
_TABLES = [rule for rule in FLAX if "embedding" in rule.role or "table" in rule.role]


def kernel_layout(name: str, x: np.ndarray) -> np.ndarray:
    """Convert PyTorch's weight `[out, in, *kernel]` to Flax's kernel `[*kernel, in, out]`.

    Args:
      name: The path of the JAX parameter. If it is the path of an embedding or a table, the
        array is returned unchanged.
      x: An array. If it has fewer than two axes, it is returned unchanged.

    Returns:
      A view of the array.

    Example:
      >>> shapes = {"conv/kernel": (8, 4, 3, 3), "wte/embedding": (50, 8), "bias": (8,)}
      >>> [kernel_layout(name, np.zeros(shape)).shape for name, shape in shapes.items()]
      [(3, 3, 4, 8), (50, 8), (8,)]
    """
    table = any(rule.matches(name, x) for rule in _TABLES)
    return x if table or x.ndim < 2 else np.moveaxis(x, (0, 1), (-1, -2))


def from_torch(
    state_dict: Mapping[str, Any],
    names: Sequence[str],
    params: optax.Params,
    count: int,
    *,
    convert: Callable[[str, np.ndarray], np.ndarray] = kernel_layout,
) -> tuple[MuonState, optax.ScaleByAdamState]:
    """Read the moments from a PyTorch optimizer's `state_dict`, for `transfer`.

    `momentum_buffer` (torch.optim.Muon, Keller Jordan's Muon, Moonlight) becomes Muon's
    momentum. `exp_avg` and `exp_avg_sq` (in Moonlight `moment1` and `moment2`) become Adam's
    moments. Moonlight's buffer is a heavy-ball momentum: pass `momentum_scale=1-β` to
    `transfer`, or continue with `heavy_ball=True`.

    Args:
      state_dict: `optimizer.state_dict()`, keyed by numbers or by PyTorch's parameter names.
      names: The path of each JAX parameter, such as `"layers/0/kernel"`, in the order of
        `"params"` in the `param_groups` of the state_dict. Keller Jordan's Muon sorts each
        group by size, largest first.
      params: The JAX parameters, or their shapes. A shape may merge or split axes of the
        converted array, such as `[in, heads, depth]` for `[in, out]`.
      count: The number of steps so far, because PyTorch's Muon does not save it.
      convert: A function that takes a path and PyTorch's array, and returns the array for JAX.
        If the JAX arrays are also `[out, in]`, pass `lambda name, x: x`.

    Returns:
      A `MuonState` and an `optax.ScaleByAdamState`, with moments by path.

    Raises:
      ValueError: If a name is not in `params` or occurs twice, if a parameter of the state_dict
        has no name or no known position, if an entry has none of these moments, if a moment
        does not have the shape of its parameter, or if `count` is negative.

    Example:
      >>> buffer = np.arange(6.0).reshape(3, 2)
      >>> state_dict = {"state": {0: {"momentum_buffer": buffer}}}
      >>> muon, _ = from_torch(state_dict, ["kernel"], {"kernel": jnp.zeros((2, 3))}, count=100)
      >>> muon.mu["kernel"].tolist()
      [[0.0, 2.0, 4.0], [1.0, 3.0, 5.0]]
    """
    check_integer("count", count, least=0)
    leaves = leaves_by_path(params)
    _check_names(names, leaves)
    positions = _positions(state_dict)
    found: dict[str, dict[str, jax.Array]] = {moment: {} for moment in _FIELDS.values()}
    for key, entry in state_dict["state"].items():
        position = positions.get(str(key), len(names))
        if position >= len(names):
            raise ValueError(
                f"parameter {key!r} of the state_dict has no name in names={list(names)}; pass "
                "a name for each parameter in the param_groups of the state_dict"
            )
        name = names[position]
        fields = [field for field in _FIELDS if entry.get(field) is not None]
        if entry and not fields:
            raise ValueError(
                f"the entry of {name!r} has the keys {sorted(entry)}, but none of "
                f"{sorted(_FIELDS)}"
            )
        for field in fields:
            x = _to_our_layout(entry[field], name, leaves[name], convert)
            found[_FIELDS[field]][name] = x
    steps = jnp.asarray(count, jnp.int32)
    adam = optax.ScaleByAdamState(steps, found["first"], found["second"])
    return MuonState(steps, found["momentum"]), adam


def _check_names(names: Sequence[str], leaves: Mapping[str, Any]) -> None:
    for name in names:
        if name not in leaves:
            raise ValueError(
                f"`names` has {name!r}, not a parameter; use paths from {sorted(leaves)}"
            )
    if repeated := [name for name, times in Counter(names).items() if times > 1]:
        raise ValueError(
            f"`names` has {repeated} more than once; pass the path of each parameter once"
        )


def _positions(state_dict: Mapping[str, Any]) -> dict[str, int]:
    """Return each parameter's position in the optimizer's order, by its key in the state."""
    groups = state_dict.get("param_groups") or []
    keys = [str(key) for group in groups for key in group.get("params", ())]
    if keys:
        return {key: position for position, key in enumerate(keys)}
    for key in state_dict["state"]:
        if not str(key).isdigit():
            raise ValueError(
                f"the state_dict has the key {key!r}, but no param_groups with its position; "
                "pass the whole optimizer.state_dict(), or use the positions in `names` as keys"
            )
    return {str(key): int(key) for key in state_dict["state"]}


def _to_our_layout(
    tensor: Any, name: str, leaf: Any, convert: Callable[[str, np.ndarray], np.ndarray]
) -> jax.Array:
    """Convert a tensor of any device and dtype to the leaf's layout, shape and dtype."""
    if hasattr(tensor, "detach"):
        tensor = tensor.detach().float().cpu().numpy()
    x = convert(name, np.asarray(tensor))
    ours, theirs = ({*np.cumprod(shape).tolist()} for shape in (leaf.shape, x.shape))
    if x.size != math.prod(leaf.shape) or not (ours <= theirs or theirs <= ours):
        problem = (
            f"its moment has shape {x.shape} after `convert`; check the order of `names`, "
        )
        problem += "or pass another `convert`"
        raise LeafError(name, leaf, problem)
    return jnp.asarray(x.reshape(leaf.shape), leaf.dtype)
