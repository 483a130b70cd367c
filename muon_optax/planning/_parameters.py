"""The leaves of a model that its optimizer gets."""

import sys
from typing import Any

import jax

from muon_optax._checks import describe
from muon_optax._leaves import leaves_by_path

_EQUINOX_SHAPES = (
    "eqx.filter_eval_shape(lambda key: eqx.filter(Model(key), eqx.is_inexact_array), key)"
)


def select_parameters(params: Any) -> Any:
    """`params`, of a model of `flax.nnx` in it only what `nnx.Optimizer` trains."""
    nnx = sys.modules.get("flax.nnx")  # who passes such a model has imported it
    if nnx is not None:
        is_model = lambda node: isinstance(node, nnx.Module)
        select = lambda node: nnx.state(node, nnx.Param) if is_model(node) else node
        params = jax.tree.map(select, params, is_leaf=is_model)
    leaves = leaves_by_path(params)
    others = [name for name, leaf in leaves.items() if not hasattr(leaf, "dtype")]
    shapes = [leaf for leaf in leaves.values() if isinstance(leaf, jax.ShapeDtypeStruct)]
    # If there are arrays, the error of the leaf says what to write.
    if len(others) + len(shapes) == len(leaves) and (others or not leaves):
        found = f"{describe(leaves[others[0]])} at {others[0]!r}" if others else "no leaves"
        raise ValueError(
            f"params has {found}: pass a tree of arrays or of shapes, and nothing else. A "
            f"filter for arrays drops shapes; those of an Equinox model are {_EQUINOX_SHAPES}"
        )
    return params
