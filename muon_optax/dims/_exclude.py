"""The argument `exclude`, which sends leaves to the fallback by name."""

from collections.abc import Sequence
from typing import Any

from muon_optax._checks import describe, is_function
from muon_optax._leaves import leaves_by_path
from muon_optax.dims._by_name import check_names_used, rule_for_name
from muon_optax.dims._resolve import Dims, ResolvedDims, is_rules, resolve_once
from muon_optax.dims._rules import EXCLUDED, Rule


def exclude_leaves(dims: Dims, exclude: str | Sequence[str]) -> Dims:
    """Return `dims`, changed to send the leaves under these names to the fallback.

    >>> import jax.numpy as jnp
    >>> from muon_optax import FLAX, dims
    >>> params = {"Dense_0": {"kernel": jnp.ones((4, 8))}, "out": {"kernel": jnp.ones((8, 2))}}
    >>> [view and view.sides for view in dims.resolve(exclude_leaves(FLAX, "out"), params)]
    [((1, 4, 8),), None]
    """
    named = {name: rule_for_name(EXCLUDED, name) for name in _as_names(exclude)}
    if not named:
        return dims
    rules = tuple(named.values())

    def resolve_the_rest(params: Any) -> Dims:
        check_names_used("exclude", named, params)
        rest = dims(params) if is_function(dims) else dims
        if is_rules(rest):
            return (*rules, *((rest,) if isinstance(rest, Rule) else rest))
        found = dict(resolve_once(rest, params).assignments)
        for name, leaf in leaves_by_path(params).items():
            for rule in rules:
                if rule.matches(name, leaf):
                    found[name] = found[name]._replace(view=None, rule=rule, doubt=None)
        return ResolvedDims(found)

    return resolve_the_rest


def _as_names(exclude: str | Sequence[str]) -> Sequence[str]:
    names = (exclude,) if isinstance(exclude, str) else exclude
    if not isinstance(names, list | tuple) or not all(isinstance(n, str) for n in names):
        raise ValueError(
            f"exclude={describe(exclude)}; use a tuple of names: ('Dense_3', 'proj_out')"
        )
    return names
