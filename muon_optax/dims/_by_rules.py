"""From rules to one result for each leaf."""

from collections.abc import Mapping, Sequence
from typing import Any

from muon_optax._leaves import LeafError
from muon_optax.dims._advice import suggest_dims
from muon_optax.dims._assignment import Assignment
from muon_optax.dims._consistency import Neighbours
from muon_optax.dims._lint import lint_leaf
from muon_optax.dims._rules import Rule, find_rule
from muon_optax.dims._view import view_of


def assign_by_rules(
    rules: Sequence[Rule], leaves: Mapping[str, Any], neighbours: Neighbours
) -> list[Assignment]:
    """The result for each leaf; one error for all leaves that no rule fits.

    `neighbours` also has the leaves that Optax has masked.
    """
    assignments, problems = [], {}
    for name, leaf in leaves.items():
        rule, problem = find_rule(rules, name, leaf, neighbours)
        if rule is None:
            problems[name] = problem
        else:
            found = Assignment(name, view_of(rule.spec, name, leaf), rule)
            assignments.append(found._replace(doubt=lint_leaf(found, leaves)))
    if problems:
        first = next(iter(problems))
        problem = problems[first]
        if len(problems) > 1:
            problem = f"{problem}. In all, {len(problems)} leaves have no rule"
        advice = suggest_dims(rules, problems.keys(), leaves, neighbours)
        raise LeafError(first, leaves[first], f"{problem}.\n{advice}")
    return assignments
