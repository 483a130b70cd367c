"""Code to paste as `dims`: the rules that some leaves need, followed by the given rules."""

import re
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, NamedTuple

from muon_optax._ranges import is_full_range, range_of_paths, replace_numbers, without_numbers
from muon_optax.dims._rules import EXCLUDED, Layout, Rule
from muon_optax.dims._view import Spec
from muon_optax.dims.layouts import LAYOUTS


class Need(NamedTuple):
    """A leaf that needs a rule, the reason (may be empty), and the spec that seems right."""

    path: str
    reason: str
    spec: Spec


def write_dims(rules: Sequence[Rule], needs: Iterable[Need], leaves: Mapping[str, Any]) -> str:
    r"""Return the code `dims=(...)`: one rule for each kind of leaf, then the given rules.

    >>> import jax.numpy as jnp
    >>> leaves = {f"layers_{i}/mix": jnp.ones((4, 16, 64)) for i in range(12)}
    >>> needs = [Need(path, "an odd name", "in in out") for path in leaves]
    >>> print(write_dims(LAYOUTS["flax"], needs, leaves))
      dims=(
          # layers_{0..11}/mix (4, 16, 64): an odd name
          Rule('mix', r'^layers_\d+/mix$', 'in in out'),
          *FLAX,
      )
    """
    lines = []
    for group in _group(needs, leaves):
        paths = [need.path for need in group]
        _, reason, spec = group[0]
        comment = f"# {range_of_paths(paths)} {tuple(leaves[paths[0]].shape)}"
        lines.append(f"{comment}: {reason}" if reason else comment)
        lines.append(f"{_write_rule(paths, spec, leaves)},")
    lines += [f"{code}," for code in _write_given(rules)]
    return "\n".join(["  dims=(", *(f"      {line}" for line in lines), "  )"])


def _group(needs: Iterable[Need], leaves: Mapping[str, Any]) -> list[list[Need]]:
    """Group needs that one rule can serve: equal specs, ranks, and paths except for numbers."""
    groups: dict[tuple, list[Need]] = defaultdict(list)
    for need in needs:
        ndim = len(leaves[need.path].shape)
        groups[without_numbers(need.path), ndim, need.spec].append(need)
    result = []
    for group in groups.values():
        full = is_full_range([need.path for need in group])
        result += [group] if full else [[need] for need in group]
    return result


def _write_rule(paths: Sequence[str], spec: Spec, leaves: Mapping[str, Any]) -> str:
    """Return the code of a rule that matches these paths and no other path of the tree."""
    any_number = replace_numbers(paths, lambda n: n[0] if len(n) == 1 else r"\d+", re.escape)
    others = [name for name in leaves if re.search(f"^{any_number}$", name)]
    if len(others) > len(paths):
        any_number = replace_numbers(
            paths, lambda n: n[0] if len(n) == 1 else f"({'|'.join(n)})", re.escape
        )
    pattern = f"^{any_number}$"
    words = re.findall(
        r"[A-Za-z]\w*?(?=_?\d*(?:/|$))", re.sub(r"/(kernel|weights?|w)$", "", paths[0])
    )
    role = words[-1] if words else "array"
    quoted = repr(pattern) if "'" in pattern else f"r'{pattern}'"
    return f"Rule({role!r}, {quoted}, {spec!r})"


def _write_given(rules: Sequence[Rule]) -> list[str]:
    """Return the code of the given rules, with each layout written by its name."""
    given = tuple(rules)
    if isinstance(rules, Layout):
        return [f"*{rules.name}"]
    layouts = sorted(LAYOUTS.values(), key=len, reverse=True)
    for start in range(len(given)):
        for layout in layouts:
            if given[start : start + len(layout)] == tuple(layout):
                before, after = given[:start], given[start + len(layout) :]
                return [*_write_given(before), f"*{layout.name}", *_write_given(after)]
    return [repr(rule) for rule in given if rule.role != EXCLUDED]
