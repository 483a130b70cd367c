"""What the variants share: a function over the matrices of a tree, and their norms."""

from collections.abc import Callable
from typing import Any

import jax
from jax import Array

from muon_optax._leaves import LeafError, leaves_by_path
from muon_optax.batching import gather_explicit, is_traced, scatter_like
from muon_optax.dims import Dims, MatrixView, matrix_views
from muon_optax.polar._linalg import normalize


def map_matrices(function: Callable[..., Array], dims: Dims, tree: Any, *rest: Any) -> Any:
    """The tree with `function(stack, *others)` in place of every stack `[batch, m, n]`.

    A leaf of `rest` is an array like that of the tree, or a tuple with an array for each stack.
    Results are rounded to the dtypes of the tree.
    """
    leaves, treedef = jax.tree.flatten(tree)
    others = [treedef.flatten_up_to(other) for other in rest]
    views = matrix_views(dims, tree)
    mapped = [_map_leaf(function, *of_leaf) for of_leaf in zip(views, leaves, *others)]
    return treedef.unflatten(mapped)


def norms_of_matrices(dims: Dims, params: Any) -> Any:
    """For every leaf a tuple with the norms `[batch, 1, 1]` of each stack; none may be 0."""
    leaves, treedef = jax.tree.flatten(params)
    views = matrix_views(dims, params)
    norms = [
        tuple(_norm(stack) for stack in _to_stacks(view, x)) for view, x in zip(views, leaves)
    ]
    for (name, x), of_leaf in zip(leaves_by_path(params).items(), norms):
        if x.size and any(not is_traced(norm) and (norm == 0).any() for norm in of_leaf):
            problem = "a matrix of it is zero and would stay zero; begin with random numbers"
            raise LeafError(name, x, problem)
    return treedef.unflatten(norms)


@jax.jit  # so that an eager `init` compiles one program for each shape
def _norm(x: Array) -> Array:
    return normalize(x)[1]


def _map_leaf(function: Callable[..., Array], view: MatrixView, x: Array, *rest: Any) -> Array:
    stacks = zip(*(_to_stacks(view, of_leaf) for of_leaf in (x, *rest)))
    mapped = [function(*of_stack).astype(x.dtype) for of_stack in stacks]
    return scatter_like(view.from_matrices(mapped, x.shape), x)


def _to_stacks(view: MatrixView, x: Any) -> Any:
    """The stacks of an array; a tuple of stacks as it is."""
    return x if isinstance(x, tuple) else view.to_matrices(gather_explicit(x))
