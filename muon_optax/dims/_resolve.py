"""Knows how `dims`, in any of its forms, becomes one view per leaf."""

from collections.abc import Sequence
from typing import Any, NamedTuple

import jax
import optax
from optax.contrib import MuonDimensionNumbers

from muon_optax._leaves import LeafError, check_float_array, path_name, path_prefixes
from muon_optax.dims._advice import advice
from muon_optax.dims._consistency import Neighbours
from muon_optax.dims._layouts import LAYOUTS
from muon_optax.dims._rules import Rule, find_rule
from muon_optax.dims._view import MatrixView, Spec, view_of

Dims = Any  # None, rules, specs or a function to them: see `muon_optax.dims`


class Assignment(NamedTuple):
    """What `dims` says of one leaf.

    Attributes:
      path: The leaf's, such as `"layers/0/kernel"`.
      view: None where it is no matrix.
      rule: Which decided; None where a spec did.
    """

    path: str
    view: MatrixView | None
    rule: Rule | None


def resolve(dims: Dims, params: Any) -> list[MatrixView | None]:
    """The matrix view of every leaf, in the order of `jax.tree.leaves(params)`.

    Args:
      dims: See `muon_optax.dims`.
      params: See `assign`.

    Returns:
      Per leaf its view, or None where it is no matrix.

    Raises:
      ValueError: See `assign`.

    Example:
      >>> import jax.numpy as jnp
      >>> from muon_optax import FLAX
      >>> query = {"kernel": jnp.ones((32, 4, 8)), "bias": jnp.ones((4, 8))}
      >>> [view and view.sides for view in resolve(FLAX, {"query": query})]
      [None, ((1, 32, 32),)]
    """
    return [assignment.view for assignment in assign(dims, params)]


def assign(dims: Dims, params: Any) -> list[Assignment]:
    """Path, view and rule of every leaf, in the order of `jax.tree.leaves(params)`.

    Args:
      dims: See `muon_optax.dims`.
      params: A tree of arrays or `jax.ShapeDtypeStruct`s. Nodes masked out by optax have no
        leaves.

    Returns:
      One `Assignment` for each leaf.

    Raises:
      LeafError: If a leaf is not of floats, has no spec or one that does not fit its axes,
        or no rule knows it.
      ValueError: If a spec of a tree matches no leaf, or is no spec, or two leaves have one
        path.

    Example:
      >>> import jax.numpy as jnp
      >>> from muon_optax import FLAX
      >>> [(a.path, a.rule.role) for a in assign(FLAX, {"wte": jnp.ones((50, 8))})]
      [('wte', 'token or position table')]
    """
    if isinstance(dims, ResolvedDims):
        return [dims.assignments[path_name(p)] for p, _ in jax.tree.leaves_with_path(params)]
    if callable(dims):
        dims = dims(params)
    named = [(path_name(path), leaf) for path, leaf in jax.tree.leaves_with_path(params)]
    for name, leaf in named:
        check_float_array(name, leaf)
    if len(dict(named)) < len(named):
        raise ValueError(f"two leaves have one path among {[name for name, _ in named]}")
    if isinstance(dims, Rule):
        dims = (dims,)
    if isinstance(dims, tuple | list) and dims and all(isinstance(r, Rule) for r in dims):
        everything = jax.tree.leaves_with_path(params, is_leaf=_is_hole)
        shapes = {path_name(path): getattr(x, "shape", None) for path, x in everything}
        leaves, neighbours = dict(named), Neighbours(shapes)
        rules = [_rule(dims, name, leaves, neighbours) for name in leaves]
        specs = [rule.spec for rule in rules]
    else:
        specs, rules = _specs(dims, named, params), [None] * len(named)
    return [
        Assignment(name, view_of(spec, name, leaf), rule)
        for (name, leaf), spec, rule in zip(named, specs, rules)
    ]


def _rule(
    rules: Sequence[Rule], name: str, leaves: dict[str, Any], neighbours: Neighbours
) -> Rule:
    rule, problem = find_rule(rules, name, leaves[name], neighbours)
    if rule is None:
        problem = f"{problem}; {advice(rules, name, leaves, neighbours)}"
        raise LeafError(name, leaves[name], problem)
    return rule


def matrix_views(dims: Dims, tree: Any) -> list[MatrixView]:
    """`resolve`, for trees in which every leaf has to be a matrix.

    Args:
      dims: See `muon_optax.dims`.
      tree: See `assign`.

    Returns:
      Per leaf its view.

    Raises:
      LeafError: If a leaf is no matrix; and see `assign`.
    """
    views = []
    for (path, view, _), leaf in zip(assign(dims, tree), jax.tree.leaves(tree)):
        if view is None:
            raise LeafError(
                path,
                leaf,
                "dims says it is no matrix; muon() gives such leaves to its fallback, "
                "optax.masked(scale_by_muon(...), mask) leaves them out",
            )
        views.append(view)
    return views


def check_trains(views: Sequence[MatrixView | None]) -> None:
    """Refuse a tree in which Muon has nothing to train.

    Args:
      views: Of all leaves.

    Raises:
      ValueError: If there are leaves, and none is a matrix.
    """
    if views and not any(views):
        raise ValueError(
            "muon has no matrix to train: dims gives every leaf to the fallback. Use "
            "the fallback alone, or a dims that names the matrices"
        )


def _specs(dims: Any, named: list[tuple[str, Any]], params: Any) -> list[Spec]:
    if dims is None:
        return [_plain_matrix(name, leaf) for name, leaf in named]
    given = _given(dims)
    _check_used(given, params)
    return [given[_covering(given, name, leaf)] for name, leaf in named]


def _plain_matrix(name: str, leaf: Any) -> Spec:
    if len(leaf.shape) != 2:
        raise LeafError(name, leaf, "without dims it needs two axes; pass dims with its spec")
    return MuonDimensionNumbers(0, 1)


def _covering(given: dict[str, Spec], name: str, leaf: Any) -> str:
    """The path in a tree of specs at which the leaf, or a node above it, has its spec."""
    for prefix in path_prefixes(name):
        if prefix in given:
            return prefix
    raise LeafError(name, leaf, "dims has no spec for it; write None for no matrix")


def _given(specs: Any) -> dict[str, Spec]:
    """The specs of a tree by path."""
    if isinstance(specs, str) and specs in LAYOUTS:
        raise ValueError(f"dims={specs!r}; use dims=LAYOUTS[{specs!r}]")
    given = {}
    for path, spec in jax.tree.leaves_with_path(specs, is_leaf=_is_spec):
        if not _is_spec(spec):
            raise ValueError(
                f"dims has {spec!r} at {path_name(path)!r}; use a string such as 'in out', "
                "MuonDimensionNumbers(in_axes, out_axes) or None for a leaf, dims=(Rule(...), "
                "*FLAX) for rules"
            )
        if path_name(path) in given:
            raise ValueError(f"dims has two specs for {path_name(path)!r}; leave one out")
        given[path_name(path)] = spec
    return given


def _check_used(given: dict[str, Spec], params: Any) -> None:
    """A spec where there is no parameter is a slip; masked nodes and None are present."""
    paths = jax.tree.leaves_with_path(params, is_leaf=_is_hole)
    present = [path_name(path) for path, _ in paths]
    used = {prefix for name in present for prefix in path_prefixes(name)}
    for name, spec in given.items():
        if name not in used:
            raise ValueError(
                f"dims has {spec} at {name!r}, where there is no parameter; there are {present}"
            )


def _is_spec(x: Any) -> bool:
    return x is None or isinstance(x, str | MuonDimensionNumbers)


def _is_hole(x: Any) -> bool:
    return x is None or isinstance(x, optax.MaskedNode)


class ResolvedDims(NamedTuple):
    """`dims` after resolution for a whole tree."""

    assignments: dict[str, Assignment]


def resolve_once(dims: Dims, params: Any) -> ResolvedDims:
    """Resolve `dims` for a whole tree, to be used for parts of it."""
    return ResolvedDims({found.path: found for found in assign(dims, params)})
