"""Knows how a `state_dict` of PyTorch's optimizers names and lays out its moments."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax

from muon_optax.checks import LeafError, check_number, path_name
from muon_optax.transform import MuonState

_ADAM = ("exp_avg", "exp_avg_sq")


def kernel_layout(x: np.ndarray) -> np.ndarray:
    """PyTorch's weight `[out, in, *kernel]` as Flax's kernel `[*kernel, in, out]`.

    Args:
      x: An array of any rank; of rank below 2 it stays as it is.

    Returns:
      A view of it.

    Example:
      >>> kernel_layout(np.zeros((8, 4, 3, 3))).shape, kernel_layout(np.zeros(8)).shape
      ((3, 3, 4, 8), (8,))
    """
    return np.moveaxis(x, (0, 1), (-1, -2)) if x.ndim > 1 else x


def from_torch(
    state_dict: Mapping[str, Any],
    names: Sequence[str],
    params: optax.Params,
    count: int,
    *,
    convert: Callable[[np.ndarray], np.ndarray] = kernel_layout,
) -> tuple[MuonState, optax.ScaleByAdamState]:
    """The moments in a PyTorch optimizer's `state_dict`, for `transfer`.

    `momentum_buffer` (torch.optim.Muon, Keller Jordan's, Moonlight's) becomes Muon's momentum,
    `exp_avg` and `exp_avg_sq` Adam's. Moonlight's buffer is a heavy ball: pass `transfer`
    `momentum_scale=1-β`, or continue with `heavy_ball=True`.

    Args:
      state_dict: `optimizer.state_dict()`.
      names: The path of each of our parameters, such as `"layers/0/kernel"`, in the order in
        which the optimizer got them.
      params: Our parameters, or their shapes. What `convert` returns is reshaped to these, so
        that `[out, in]` may become `[in, heads, depth]`.
      count: The steps done; PyTorch's Muon does not keep them.
      convert: From PyTorch's layout to ours; for trees that have `[out, in]` themselves,
        `lambda x: x`.

    Returns:
      Two nodes of moments by path.

    Raises:
      ValueError: If a name is not in `params`, there are more parameters than names, a moment
        has another size, or `count` is negative.

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
    found: dict[str, dict[str, jax.Array]] = {}
    for index, moments in state_dict["state"].items():
        if not 0 <= int(index) < len(names):
            raise ValueError(
                f"parameter {index} of the state_dict has no name; names are {names}"
            )
        name = names[int(index)]
        for field in ("momentum_buffer", *_ADAM):
            if moments.get(field) is not None:
                x = _converted(moments[field], name, leaves[name], convert)
                found.setdefault(field, {})[name] = x
    steps = jnp.asarray(count, jnp.int32)
    mu, first, second = (found.get(field, {}) for field in ("momentum_buffer", *_ADAM))
    return MuonState(steps, mu), optax.ScaleByAdamState(steps, first, second)


def _converted(
    tensor: Any, name: str, leaf: Any, convert: Callable[[np.ndarray], np.ndarray]
) -> jax.Array:
    """A tensor of any device and dtype, bfloat16 too, in the leaf's layout."""
    if hasattr(tensor, "detach"):
        tensor = tensor.detach().float().cpu().numpy()
    x = convert(np.asarray(tensor))
    if x.size != np.prod(leaf.shape):
        raise LeafError(name, leaf, f"its moment in the state_dict has shape {x.shape}")
    return jnp.asarray(x.reshape(leaf.shape), leaf.dtype)
