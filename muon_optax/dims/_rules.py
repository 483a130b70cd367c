"""Rules, which say what role a path has, and how to read arrays of that role as matrices."""

import math
import re
from collections.abc import Sequence
from dataclasses import dataclass, fields
from typing import Any

from muon_optax._checks import describe
from muon_optax.dims._consistency import Neighbours, find_contradiction
from muon_optax.dims._names import plain_name
from muon_optax.dims._spec import parse
from muon_optax.dims._view import Spec, is_numbers, view_of

EXCLUDED = "excluded"  # the role of the leaves in the argument `exclude`


@dataclass(frozen=True, repr=False)
class Rule:
    """A rule that gives leaves a role by their path and says how to read them as matrices.

    Attributes:
      role: The role in words, such as `"output head"`; `plan` shows it.
      pattern: A regular expression, searched anywhere in the leaf's path, such as
        `"blocks/0/mlp/kernel"`. Case is ignored.
      spec: How to read the array: a string with one word for each axis, or
        `MuonDimensionNumbers`, or None for the fallback. A string matches only leaves with that
        number of axes. In `MuonDimensionNumbers`, use negative axes if there may be leading
        batch axes.
      min_ndim: The smallest number of axes of a leaf that matches.
      max_ndim: The largest number of axes of a leaf that matches.
      guess: Whether to skip this rule if other leaves of the module contradict it, such as the
        bias of a kernel or the other kernels of an attention layer.

    Raises:
      SpecError: If `spec` is a string that cannot be read.
      ValueError: If `spec` has another type, or `pattern` is not a regular expression.

    Example:
      >>> import jax.numpy as jnp
      >>> from muon_optax import FLAX, dims
      >>> rules = (Rule("codebook", r"codes$", None), Rule("heads", r"q$", "in heads out"))
      >>> params = {"codes": jnp.ones((8, 4)), "q": jnp.ones((32, 4, 8)), "b": jnp.ones(8)}
      >>> [view and view.sides for view in dims.resolve((*rules, *FLAX), params)]
      [None, None, ((4, 32, 8),)]
    """

    role: str
    pattern: str
    spec: Spec
    min_ndim: int = 0
    max_ndim: float = math.inf
    guess: bool = False

    def __post_init__(self):
        if isinstance(self.spec, str):
            parse(self.spec, f"rule {self.role!r}")
        elif self.spec is not None and not is_numbers(self.spec):
            raise ValueError(
                f"rule {self.role!r} has spec={describe(self.spec)}; use a string such as "
                "'in out', MuonDimensionNumbers(in_axes, out_axes), or None for the fallback"
            )
        try:
            re.compile(self.pattern)
        except re.error as error:
            raise ValueError(
                f"rule {self.role!r} has pattern={self.pattern!r}, which is not a regular "
                f"expression: {error}"
            ) from error

    def __repr__(self):
        """Return code that makes this rule: `Rule('mine', r'^w$', 'in out')`."""
        pattern = repr(self.pattern) if "'" in self.pattern else f"r'{self.pattern}'"
        options = [
            f"{f.name}={getattr(self, f.name)}"
            for f in fields(self)[3:]
            if getattr(self, f.name) != f.default
        ]
        return f"Rule({', '.join([repr(self.role), pattern, repr(self.spec), *options])})"

    def matches(self, name: str, leaf: Any) -> bool:
        """Whether the rule fits this path and number of axes."""
        ndim = len(leaf.shape)
        if not self.min_ndim <= ndim <= self.max_ndim:
            return False
        if isinstance(self.spec, str) and not parse(self.spec, "").fits(ndim):
            return False
        return self.finds(name)

    def finds(self, name: str) -> bool:
        """Whether the pattern is found in this path."""
        names = {name, plain_name(name)}
        return any(re.search(self.pattern, n, re.IGNORECASE) for n in names)


class Layout(tuple[Rule, ...]):
    """A tuple of rules whose `repr` is its name.

    Attributes:
      name: A Python expression for the layout, such as `"FLAX"`.

    Example:
      >>> from muon_optax import FLAX, LAYOUTS
      >>> FLAX, LAYOUTS["hugging_face"]
      (FLAX, LAYOUTS['hugging_face'])
    """

    name: str

    def __new__(cls, name: str, *rules: Rule):
        layout = super().__new__(cls, rules)
        layout.name = name
        return layout

    def __getnewargs__(self):  # for copy and pickle
        return (self.name, *self)

    def __repr__(self):
        return self.name


def find_rule(
    rules: Sequence[Rule], name: str, leaf: Any, neighbours: Neighbours
) -> tuple[Rule | None, str]:
    """Return the first rule that matches and that no leaf contradicts; or None, and why."""
    problem = "no rule in `dims` fits its path and number of axes"
    for rule in rules:
        if not rule.matches(name, leaf):
            continue
        view = view_of(rule.spec, name, leaf)
        inner = neighbours.names[name]
        found = find_contradiction(view, inner, neighbours) if rule.guess else None
        if not found:
            return rule, problem
        problem = (
            f"no rule in `dims` fits it. The rule {rule.role!r} matches its path, but other "
            f"leaves contradict this rule: {found}"
        )
    return None, problem
