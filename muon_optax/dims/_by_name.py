"""Leaves by name: a name or regular expression that matches whole parts of a path."""

import difflib
import re
from collections.abc import Collection, Mapping
from typing import Any

from muon_optax._leaves import leaves_by_path
from muon_optax.dims._resolve import is_masked
from muon_optax.dims._rules import Rule


def rule_for_name(role: str, name: str) -> Rule:
    """Return a rule for the leaves under a name; `Dense_1` does not match `Dense_10`."""
    try:
        re.compile(f"(?:{name})")
    except re.error:  # then it is a plain name
        name = re.escape(name)
    return Rule(role, rf"(?:^|/)(?:{name})(?:/|$)", None)


def check_names_used(argument: str, named: Mapping[str, Rule], params: Any) -> None:
    """Refuse a name that matches no path of the tree, not even that of a masked leaf."""
    paths = leaves_by_path(params, is_leaf=is_masked)
    for name, rule in named.items():
        if paths and name not in paths and not any(rule.finds(path) for path in paths):
            raise ValueError(
                f"`{argument}` has {name!r}, which matches no path; {_hint(name, paths)} A "
                "name or regular expression must match whole parts of a path"
            )


def _hint(name: str, paths: Collection[str]) -> str:
    parts = dict.fromkeys(part for path in paths for part in path.split("/"))
    near = difflib.get_close_matches(name, parts, n=3)
    if near:
        return f"did you mean {' or '.join(map(repr, near))}?"
    return f"the first path is {next(iter(paths))!r}."
