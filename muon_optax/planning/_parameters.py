"""The parameters of a model: the leaves that an optimizer trains."""

import sys
from typing import Any

import jax

from muon_optax._checks import describe
from muon_optax._leaves import leaves_by_path

_EQUINOX_SHAPES = (
    "eqx.filter_eval_shape(lambda key: eqx.filter(Model(key), eqx.is_inexact_array), key)"
)


def select_parameters(params: Any) -> Any:
    """Return `params`, but keep only the `nnx.Param`s of each `flax.nnx` model in it."""
    nnx = sys.modules.get("flax.nnx")  # imported already if there is such a model
    if nnx is not None:
        is_model = lambda node: isinstance(node, nnx.Module)
        select = lambda node: nnx.state(node, nnx.Param) if is_model(node) else node
        params = jax.tree.map(select, params, is_leaf=is_model)
    leaves = leaves_by_path(params)
    others = [name for name, leaf in leaves.items() if not hasattr(leaf, "dtype")]
    shapes = [leaf for leaf in leaves.values() if isinstance(leaf, jax.ShapeDtypeStruct)]
    # If there are arrays, a later error says what to write instead of the first other leaf.
    if len(others) + len(shapes) == len(leaves) and (others or not leaves):
        found = f"{describe(leaves[others[0]])} at {others[0]!r}" if others else "no leaves"
        raise ValueError(
            f"`params` has {found}; pass a tree that has only arrays or only shapes. For the "
            f"shapes of an Equinox model, use {_EQUINOX_SHAPES}"
        )
    return params
