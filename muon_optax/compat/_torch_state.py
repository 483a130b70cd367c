"""Knows how a `state_dict` of PyTorch's optimizers names and lays out its moments."""

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax

from muon_optax._checks import check_number
from muon_optax._leaves import LeafError, path_name
from muon_optax.dims import FLAX
from muon_optax.transforms._momentum import MuonState

# By the names of torch.optim and Keller Jordan, and by Moonlight's.
_FIELDS = {
    "momentum_buffer": "momentum",
    "exp_avg": "first",
    "moment1": "first",
    "exp_avg_sq": "second",
    "moment2": "second",
}
_TABLES = [rule for rule in FLAX if "embedding" in rule.role or "table" in rule.role]


def kernel_layout(name: str, x: np.ndarray) -> np.ndarray:
    """PyTorch's weight `[out, in, *kernel]` as Flax's kernel `[*kernel, in, out]`.

    Args:
      name: Our parameter's path; what it calls an embedding or a table stays as it is.
      x: An array of any rank; of rank below 2 it stays as it is.

    Returns:
      A view of it.

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
    """The moments in a PyTorch optimizer's `state_dict`, for `transfer`.

    `momentum_buffer` (torch.optim.Muon, Keller Jordan's, Moonlight's) becomes Muon's momentum,
    `exp_avg` and `exp_avg_sq` (Moonlight's `moment1` and `moment2`) Adam's. Moonlight's buffer
    is a heavy ball: pass `transfer` `momentum_scale=1-β`, or continue with `heavy_ball=True`.

    Args:
      state_dict: `optimizer.state_dict()`.
      names: The path of each of our parameters, such as `"layers/0/kernel"`, in the order of
        the optimizer's `param_groups`. Keller Jordan's Muon sorts each of its groups by size,
        the largest first.
      params: Our parameters, or their shapes. What `convert` returns may have axes that are
        merged or split there, so that `[in, out]` may become `[in, heads, depth]`.
      count: The steps done; PyTorch's Muon does not keep them.
      convert: From path and array in PyTorch's layout to ours; for trees that have `[out, in]`
        themselves, `lambda name, x: x`.

    Returns:
      Two nodes of moments by path.

    Raises:
      ValueError: If a name is not in `params`, there are more parameters than names, an entry
        holds none of these moments, or `count` is negative.
      LeafError: If a moment's shape is not that of its parameter; a `ValueError` too.

    Example:
      >>> buffer = np.arange(6.0).reshape(3, 2)
      >>> state_dict = {"state": {0: {"momentum_buffer": buffer}}}
      >>> muon, _ = from_torch(state_dict, ["kernel"], {"kernel": jnp.zeros((2, 3))}, count=100)
      >>> muon.mu["kernel"].tolist()
      [[0.0, 2.0, 4.0], [1.0, 3.0, 5.0]]
    """
    check_number("count", count, "a whole number ≥ 0", lambda c: c >= 0 and c == int(c))
    leaves = {path_name(path): leaf for path, leaf in jax.tree.leaves_with_path(params)}
    for name in names:
        if name not in leaves:
            raise ValueError(f"{name!r} is no parameter; there are {sorted(leaves)}")
    found: dict[str, dict[str, jax.Array]] = {moment: {} for moment in _FIELDS.values()}
    for index, entry in state_dict["state"].items():
        if not 0 <= int(index) < len(names):
            raise ValueError(
                f"parameter {index} of the state_dict has no name; names are {names}"
            )
        name = names[int(index)]
        moments = {m: entry[f] for f, m in _FIELDS.items() if entry.get(f) is not None}
        if entry and not moments:
            raise ValueError(f"{name!r} has {sorted(entry)}; known are {sorted(_FIELDS)}")
        for moment, tensor in moments.items():
            found[moment][name] = _converted(tensor, name, leaves[name], convert)
    steps = jnp.asarray(count, jnp.int32)
    adam = optax.ScaleByAdamState(steps, found["first"], found["second"])
    return MuonState(steps, found["momentum"]), adam


def _converted(
    tensor: Any, name: str, leaf: Any, convert: Callable[[str, np.ndarray], np.ndarray]
) -> jax.Array:
    """A tensor of any device and dtype, bfloat16 too, in the leaf's layout."""
    if hasattr(tensor, "detach"):
        tensor = tensor.detach().float().cpu().numpy()
    x = convert(name, np.asarray(tensor))
    ours, theirs = ({*np.cumprod(shape).tolist()} for shape in (leaf.shape, x.shape))
    if x.size != math.prod(leaf.shape) or not (ours <= theirs or theirs <= ours):
        raise LeafError(name, leaf, f"its moment, converted, has shape {x.shape}")
    return jnp.asarray(x.reshape(leaf.shape), leaf.dtype)
