"""Knows what to write where no rule fits a leaf."""

import re
from collections.abc import Mapping, Sequence
from typing import Any

from muon_optax.dims._consistency import Neighbours
from muon_optax.dims._layouts import LAYOUTS
from muon_optax.dims._rules import Rule, find_rule


def advice(
    rules: Sequence[Rule], name: str, leaves: Mapping[str, Any], neighbours: Neighbours
) -> str:
    """A layout that knows the whole tree, if there is one; and a rule to be completed.

    Args:
      rules: Those that do not know the leaf.
      name: Its path.
      leaves: All leaves by path.
      neighbours: The same, see `find_rule`.

    Returns:
      What the error is to end with.
    """
    fitting = [
        f"LAYOUTS[{layout!r}]"
        for layout, others in LAYOUTS.items()
        if all(find_rule(others, n, leaf, neighbours)[0] for n, leaf in leaves.items())
    ]
    verb = "knows" if len(fitting) == 1 else "know"
    known = f"{' and '.join(fitting)} {verb} every leaf of this tree; or " if fitting else ""
    words = " ".join("?" * len(leaves[name].shape))
    return (
        f"{known}put a rule in front, dims=(Rule('mine', r'(^|/){re.escape(name)}$', "
        f"{words!r}), *{_basis(rules)}), with a word for each ?: in, out, or the name of a "
        f"batch axis; None in place of {words!r} gives the leaf to the fallback"
    )


def _basis(rules: Sequence[Rule]) -> str:
    """The layout that stands behind a user's own rules."""
    for layout, others in LAYOUTS.items():
        if tuple(rules[-len(others) :]) == others:
            return "FLAX" if layout == "flax" else f"LAYOUTS[{layout!r}]"
    return "rules"
