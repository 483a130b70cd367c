"""Apply rules to every leaf of a tree."""

import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from muon_optax._leaves import LeafError
from muon_optax.dims._advice import Need, write_dims
from muon_optax.dims._assignment import Assignment
from muon_optax.dims._consistency import Neighbours
from muon_optax.dims._evidence import judge
from muon_optax.dims._guess import guess_spec, spec_by_bias, spec_by_places, spec_by_query
from muon_optax.dims._lint import lint_leaf
from muon_optax.dims._names import UNKNOWN, looks_like_kernel
from muon_optax.dims._rules import EXCLUDED, Rule, find_rule
from muon_optax.dims._tree import Tree
from muon_optax.dims._view import view_of
from muon_optax.dims._widths import ROLES_OF_THE_ENDS
from muon_optax.dims.layouts import LAYOUTS, is_from_layout


def assign_by_rules(
    rules: Sequence[Rule], leaves: Mapping[str, Any], neighbours: Neighbours
) -> list[Assignment]:
    """Return the result for each leaf. Raise one error for all leaves that no rule fits.

    `neighbours` also contains masked leaves.
    """
    by_layout = any(map(is_from_layout, rules))
    assignments, needs, problems = [], [], []
    for path, leaf in leaves.items():
        rule, problem = find_rule(rules, path, leaf, neighbours)
        name, evidence = neighbours.names[path], None
        if rule is None and by_layout:
            rule, evidence = _rule_by_neighbours(name, leaf, neighbours)
        if rule is None:
            problems.append(problem)
            needs.append(Need(path, "", guess_spec(name, neighbours)))
        else:
            view = view_of(rule.spec, path, leaf)
            assignments.append(Assignment(name, view, rule, evidence))
    if needs:
        raise _error(problems[0], rules, needs, leaves, neighbours)
    others = [rule for rule in rules if rule.spec is not None or is_from_layout(rule)]
    in_model = [
        _role_in_model(found, others, path, leaf, neighbours)
        for found, (path, leaf) in zip(assignments, leaves.items())
    ]
    tree = Tree(assignments, in_model, neighbours)
    tree.update([judge(found, tree) for found in assignments])
    return [
        lint_leaf(found, tree)._replace(path=path)
        for path, found in zip(leaves, tree.assignments.values())
    ]


def _role_in_model(
    found: Assignment,
    others: Sequence[Rule],
    path: str,
    leaf: Any,
    neighbours: Neighbours,
) -> Assignment:
    """Return what a leaf is in the model by `others`, if the user sends it to the fallback."""
    rule = found.rule
    if found.view is not None or rule in others or (rule and rule.role in ROLES_OF_THE_ENDS):
        return found
    unknown = found if found.evidence else found._replace(rule=Rule(EXCLUDED, "", None))
    try:
        rule, _ = find_rule(others, path, leaf, neighbours)
        view = view_of(rule.spec, path, leaf) if rule else None
    except LeafError:  # the rule does not fit, which may be why the user left the leaf out
        return unknown
    # A layout may misread the two axes of a matrix, which may be why, too.
    certain = rule and (len(leaf.shape) > 2 or rule.role in ROLES_OF_THE_ENDS)
    return found._replace(view=view, rule=rule) if certain else unknown


def _rule_by_neighbours(
    name: str, leaf: Any, neighbours: Neighbours
) -> tuple[Rule | None, str | None]:
    """Return a rule for a leaf that no rule matches, with the evidence from other leaves."""
    if len(leaf.shape) > 2 and (spec := spec_by_bias(name, neighbours)):
        role = "convolution" if spec_by_places(tuple(leaf.shape)) else "kernel of several axes"
        return Rule(role, "", spec), "the shape of its bias shows which axes are outputs"
    if spec := spec_by_query(name, neighbours):
        return Rule("attention output", "", spec), "its heads are those of the query"
    if looks_like_kernel(name) and (spec := spec_by_places(tuple(leaf.shape))):
        return Rule("convolution", "", spec), "its first axes are short and of equal length"
    long = [length for length in leaf.shape if length != 1]
    is_kernel = re.search(r"(^|[/.])(kernel|weights?|w)$", name)
    if not is_kernel and (len(leaf.shape) == 2 or len(long) < 3):
        if len(long) < 2:
            return Rule("vector or scalar", "", None), "no two axes are longer than 1"
        return Rule(UNKNOWN, "", None), "no rule matches its name; is it a matrix?"
    return None, None


def _error(
    problem: str,
    rules: Sequence[Rule],
    needs: Sequence[Need],
    leaves: Mapping[str, Any],
    neighbours: Neighbours,
) -> LeafError:
    """Return an error with rules to paste for every leaf without a rule."""
    first = needs[0]
    if len(needs) > 1:
        problem = f"{problem}. In all, {len(needs)} leaves have no rule"
    lines = [
        f"{problem}. Pass these rules as `dims`:",
        write_dims(rules, needs, leaves),
        "Check each spec: it is a guess from the shapes of the other leaves. A spec has one "
        "word for each axis: in (the layer sums over this axis), out (an axis of the layer's "
        "result) or any other name (a batch axis). None sends the leaf to the fallback.",
    ]
    fitting = [
        f"dims={layout!r}"
        for layout in LAYOUTS.values()
        if layout is not rules and _knows_all(layout, leaves, neighbours)
    ]
    if fitting:
        lines.append(f"Or pass a layout with a rule for every leaf: {' or '.join(fitting)}.")
    paths = tuple(need.path for need in needs)
    return LeafError(first.path, leaves[first.path], "\n".join(lines), paths)


def _knows_all(
    layout: Iterable[Rule], leaves: Mapping[str, Any], neighbours: Neighbours
) -> bool:
    return all(
        find_rule(tuple(layout), name, leaf, neighbours)[0] is not None
        for name, leaf in leaves.items()
    )
