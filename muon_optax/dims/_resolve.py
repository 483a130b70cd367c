"""Resolve `dims`, in any of its forms, to one view or None for each leaf of a tree.

>>> import jax.numpy as jnp
>>> params = {"up": {"kernel": jnp.ones((32, 64)), "bias": jnp.ones(64)}}
>>> specs = {"up": {"kernel": "in out", "bias": None}}
>>> [(found.path, found.view and found.view.sides) for found in assign(specs, params)]
[('up/bias', None), ('up/kernel', ((1, 32, 64),))]
"""

import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from difflib import get_close_matches
from typing import Any

import jax
import optax
from optax.contrib import MuonDimensionNumbers

from muon_optax._checks import describe, is_function, nearest, suggest_static
from muon_optax._leaves import LeafError, check_float_array, leaves_by_path, path_prefixes
from muon_optax.dims._assignment import Assignment
from muon_optax.dims._by_rules import assign_by_rules
from muon_optax.dims._consistency import Neighbours
from muon_optax.dims._rules import Rule
from muon_optax.dims._view import MatrixView, Spec, is_numbers, view_of
from muon_optax.dims.layouts import LAYOUTS

Dims = Any  # any form that the docstring of `muon_optax.dims` lists


@dataclass(frozen=True)
class ResolvedDims:
    """`dims` resolved for a whole tree, as `resolve_once` returns it.

    Pass it as `dims`. Leaves are looked up by path, so any part of the tree may be missing or
    masked.

    Attributes:
      assignments: The result for each leaf, by path.
      rules: The given rules; empty if specs were given.
    """

    assignments: Mapping[str, Assignment]
    rules: Sequence[Rule] = ()

    def lookup(self, name: str, leaf: Any) -> Assignment:
        """Return the result for one leaf of a tree."""
        if name not in self.assignments:
            problem = "`dims` was resolved for a tree without this leaf; resolve it again"
            raise LeafError(name, leaf, problem)
        found = self.assignments[name]
        if found.view and math.prod(found.view.shape) != math.prod(leaf.shape):
            shape = found.view.shape
            problem = f"`dims` was resolved for a leaf of shape {shape}; resolve it again"
            raise LeafError(name, leaf, problem)
        return found


def resolve_once(dims: Dims, params: Any) -> ResolvedDims:
    """Resolve `dims` for a whole tree, for later use with any part of it.

    Rules compare a leaf with other leaves, so they need the whole tree.

    Args:
      dims: Any form that `muon_optax.dims` lists.
      params: A tree of arrays or `jax.ShapeDtypeStruct`s.

    Returns:
      A value to pass as `dims`.

    Raises:
      ValueError: As in `resolve`.

    Example:
      >>> import jax.numpy as jnp
      >>> from muon_optax import FLAX
      >>> params = {"up": {"kernel": jnp.ones((32, 64)), "bias": jnp.ones(64)}}
      >>> resolved = resolve_once(FLAX, params)
      >>> (view,) = resolve(resolved, {"up": {"kernel": params["up"]["kernel"]}})
      >>> view.sides
      ((1, 32, 64),)
    """
    if not leaves_by_path(params):
        return ResolvedDims({})
    while is_function(dims):
        dims = dims(params)
    if isinstance(dims, Rule):
        dims = (dims,)
    assignments = {found.path: found for found in assign(dims, params)}
    return ResolvedDims(assignments, dims if is_rules(dims) else ())


def resolve(dims: Dims, params: Any) -> list[MatrixView | None]:
    """The matrix view of each leaf, in the order of `jax.tree.leaves(params)`.

    Args:
      dims: Any form that `muon_optax.dims` lists.
      params: A tree of arrays or `jax.ShapeDtypeStruct`s. Parts that Optax has masked have no
        leaves.

    Returns:
      A view for each leaf that is a matrix, and None for each other leaf.

    Raises:
      LeafError: If a leaf is not an array of floats, if no rule or spec covers it, or if its
        spec does not fit its axes.
      ValueError: If `dims` has a spec where the tree has no leaf, if it contains anything but
        specs, or if two leaves share a path.

    Example:
      >>> import jax.numpy as jnp
      >>> from muon_optax import FLAX
      >>> query = {"kernel": jnp.ones((32, 4, 8)), "bias": jnp.ones((4, 8))}
      >>> [view and view.sides for view in resolve(FLAX, {"query": query})]
      [None, ((1, 32, 32),)]
    """
    return [found.view for found in assign(dims, params)]


def matrix_views(dims: Dims, tree: Any) -> list[MatrixView]:
    """The matrix view of each leaf; every leaf must be a matrix.

    Args:
      dims: Any form that `muon_optax.dims` lists.
      tree: A tree of the kind that `resolve` takes as `params`.

    Returns:
      The views in the order of `jax.tree.leaves(tree)`.

    Raises:
      LeafError: If a leaf is not a matrix.
      ValueError: As in `resolve`.

    Example:
      >>> import jax.numpy as jnp
      >>> [view.sides for view in matrix_views("in out", {"up": jnp.ones((32, 64))})]
      [((1, 32, 64),)]
    """
    views = []
    for found, leaf in zip(assign(dims, tree), jax.tree.leaves(tree)):
        if found.view is None:
            raise LeafError(
                found.path,
                leaf,
                "`dims` says that this leaf is not a matrix. Use muon(), which sends such "
                "leaves to its fallback, or mask them: optax.masked(scale_by_muon(...), mask)",
            )
        views.append(found.view)
    return views


def assign(dims: Dims, params: Any) -> list[Assignment]:
    """Return the assignment of each leaf, in the order of `jax.tree.leaves(params)`.

    >>> import jax.numpy as jnp
    >>> from muon_optax import FLAX
    >>> [(found.path, found.rule.role) for found in assign(FLAX, {"wte": jnp.ones((50, 8))})]
    [('wte', 'table')]
    """
    leaves = leaves_by_path(params)
    if not leaves:  # optax.tree_map_params passes a placeholder to init
        return []
    if is_function(dims):
        return assign(dims(params), params)
    for name, leaf in leaves.items():
        check_float_array(name, leaf)
    if isinstance(dims, ResolvedDims):
        return [dims.lookup(name, leaf) for name, leaf in leaves.items()]
    if isinstance(dims, Rule):
        dims = (dims,)
    if is_rules(dims):
        every_leaf = leaves_by_path(params, is_leaf=is_masked)
        shapes = {name: getattr(leaf, "shape", None) for name, leaf in every_leaf.items()}
        return assign_by_rules(dims, leaves, Neighbours(shapes))
    specs = _specs_by_leaf(dims, leaves, params)
    return [
        Assignment(name, view_of(specs[name], name, leaf), None)
        for name, leaf in leaves.items()
    ]


def is_rules(dims: Dims) -> bool:
    """Whether `dims` is a rule, or a layout or another sequence of rules."""
    rules = dims if isinstance(dims, tuple | list) else (dims,)
    return bool(rules) and all(isinstance(rule, Rule) for rule in rules)


def check_any_matrix(resolved: ResolvedDims, tree: Any) -> None:
    """Refuse a tree that has leaves but no matrix."""
    found = resolved.assignments
    if found and not any(of_leaf.view for of_leaf in found.values()):
        shapes = {
            path: getattr(leaf, "shape", ()) for path, leaf in leaves_by_path(tree).items()
        }
        paths = [path for path, shape in shapes.items() if len(shape) == 2]
        rule = f", as Rule('mine', r'^{re.escape(paths[0])}$', 'in out') does" if paths else ""
        raise ValueError(
            "muon has no matrix to train: `dims` sends every leaf to the fallback. Use the "
            f"fallback alone, or put rules in front of `dims` that name the matrices{rule}"
        )


def _specs_by_leaf(dims: Any, leaves: Mapping[str, Any], params: Any) -> dict[str, Spec]:
    """Return each leaf's spec by path: its own, or that of the nearest node above it."""
    if dims is None:
        return {name: _two_axes(name, leaf) for name, leaf in leaves.items()}
    given = _given_specs(dims)
    _check_used(given, params)
    specs = {}
    for name, leaf in leaves.items():
        above = [prefix for prefix in path_prefixes(name) if prefix in given]
        if not above:
            problem = "`dims` has no spec for this leaf; add one, or None if it is not a matrix"
            raise LeafError(name, leaf, problem)
        specs[name] = given[above[0]]
    return specs


def _two_axes(name: str, leaf: Any) -> Spec:
    if len(leaf.shape) != 2:
        problem = (
            "with dims=None, or with a function that returns None, each leaf needs two axes; "
            "pass `dims` with a spec for this leaf"
        )
        raise LeafError(name, leaf, problem)
    return MuonDimensionNumbers(0, 1)


def _given_specs(dims: Any) -> dict[str, Spec]:
    """Return the specs of a tree by path."""
    if isinstance(dims, str) and (near := get_close_matches(dims.lower(), LAYOUTS, 1)):
        raise ValueError(f"dims={dims!r}; use dims=LAYOUTS[{near[0]!r}]")
    given = leaves_by_path(dims, is_leaf=_is_spec)
    for name, spec in given.items():
        if not _is_spec(spec):
            static = suggest_static("dims", spec, jax.Array | bool)
            raise ValueError(
                f"`dims` has {describe(spec)} at {name!r}; use a string such as 'in out', "
                "MuonDimensionNumbers(in_axes, out_axes) or None for each leaf, or "
                f"dims=(Rule(...), *FLAX) for rules{static}"
            )
    return given


def _check_used(given: Mapping[str, Spec], params: Any) -> None:
    """Refuse a spec where the tree has no parameter, not even a masked one or None."""
    present = list(leaves_by_path(params, is_leaf=is_masked))
    used = {prefix for name in present for prefix in path_prefixes(name)}
    for name, spec in given.items():
        if name not in used:
            raise ValueError(
                f"`dims` has {spec} at {name!r}, where the tree has no parameter; the first of "
                f"the tree's {len(present)} paths is {present[0]!r}{nearest(name, present)}"
            )


def _is_spec(x: Any) -> bool:
    return x is None or isinstance(x, str) or is_numbers(x)


def is_masked(x: Any) -> bool:
    """Whether a node is None, or stands for a leaf that Optax has masked."""
    return x is None or isinstance(x, optax.MaskedNode)
