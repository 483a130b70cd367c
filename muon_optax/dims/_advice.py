"""What to write as `dims` when no rule matches a leaf: rules to complete, or another layout."""

import re
from collections import defaultdict
from collections.abc import Collection, Mapping, Sequence
from typing import Any

from muon_optax.dims._consistency import Neighbours
from muon_optax.dims._rules import Layout, Rule, find_rule
from muon_optax.dims.layouts import LAYOUTS


def suggest_dims(
    rules: Sequence[Rule],
    unknown: Collection[str],
    leaves: Mapping[str, Any],
    neighbours: Neighbours,
) -> str:
    """The end of the error about leaves, given by path, that no rule fits."""
    missing = _missing_rules(unknown, leaves)
    basis = rules.name if isinstance(rules, Layout) else "rules"
    owner = "the layout's" if isinstance(rules, Layout) else "yours"
    if len(missing) == 1:
        lines = [f"Put a rule in front of {owner}:", f"  dims=({missing[0][0]}, *{basis})"]
    else:
        lines = [f"Put these rules in front of {owner}:", "  dims=("]
        lines += [f"      {rule},  # {shape}" for rule, shape in missing]
        lines += [f"      *{basis},", "  )"]
    if any("?" in rule for rule, _ in missing):
        lines.append(
            "Replace each ? by one word for that axis: in (the layer sums over it), out (an "
            "axis of its result) or another name (a batch axis). Write None in place of the "
            "string to leave the parameter to the fallback."
        )
    if basis == "rules":
        lines.append("Here `rules` stands for a tuple of the rules that you pass now.")
    fitting = [
        f"dims={layout!r}"
        for layout in LAYOUTS.values()
        if _fits_all(layout, leaves, neighbours)
    ]
    if fitting:
        lines.append(
            f"Or pass a layout that has a rule for every leaf: {' or '.join(fitting)}."
        )
    return "\n".join(lines)


def _missing_rules(
    unknown: Collection[str], leaves: Mapping[str, Any]
) -> list[tuple[str, str]]:
    """The code of each missing rule and what shape it is for: one rule for layers alike."""
    groups: dict[str, list[str]] = defaultdict(list)
    for name in leaves:
        groups[_pattern(name, any_number=True)].append(name)
    rules = []
    for pattern, names in groups.items():
        missing = [name for name in names if name in unknown]
        shapes = [tuple(leaves[name].shape) for name in missing]
        if len(missing) == len(names) and len({len(shape) for shape in shapes}) == 1:
            rules.append((_rule_code(pattern, shapes[0]), str(shapes[0])))
        else:
            rules += [
                (_rule_code(_pattern(name), shape), str(shape))
                for name, shape in zip(missing, shapes)
            ]
    return rules


def _pattern(name: str, any_number: bool = False) -> str:
    """A regular expression for a path, or for all paths that differ only in numbers."""
    escaped = re.escape(name)
    if any_number:
        escaped = re.sub(r"\d+", r"\\d+", escaped)
    return f"(^|/){escaped}$" if name else "^$"


def _rule_code(pattern: str, shape: tuple[int, ...]) -> str:
    quoted = repr(pattern) if "'" in pattern else f"r'{pattern}'"
    words = " ".join(["?"] * len(shape))
    return f"Rule('my rule', {quoted}, {repr(words) if len(shape) > 1 else None})"


def _fits_all(layout: Layout, leaves: Mapping[str, Any], neighbours: Neighbours) -> bool:
    """Whether a layout has a rule for every leaf."""
    return all(
        find_rule(layout, name, leaf, neighbours)[0] is not None
        for name, leaf in leaves.items()
    )
