"""A rule: which paths have a role, and how an array of that role is read as matrices."""

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

EXCLUDED = "excluded"  # the role of leaves that the argument `exclude` names


@dataclass(frozen=True, repr=False)
class Rule:
    """A role, the leaves that have it, and how each of them is read as matrices.

    Attributes:
      role: The role in words, such as `"output head"`; `plan` shows it.
      pattern: A regular expression, searched anywhere in the leaf's path, such as
        `"blocks/0/mlp/kernel"`. Upper and lower case are the same.
      spec: How to read the array: a string with one word for each axis, which then matches only
        leaves of that many axes; or `MuonDimensionNumbers`, with axes counted from the end if
        leading batch axes may come before; or None, which leaves it to the fallback.
      min_ndim: The smallest number of axes of a leaf that matches.
      max_ndim: The largest number of axes of a leaf that matches.
      guess: Whether leaves in the same module may contradict the rule: the bias of a kernel,
        the other kernels of an attention layer or of a stack. The next rule is then tried.

    Raises:
      SpecError: If a string cannot be read.
      ValueError: If `spec` is of another type, or `pattern` is not a regular expression.

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
                f"rule {self.role!r} has spec={describe(self.spec)}; use a string such as 'in "
                "out', MuonDimensionNumbers(in_axes, out_axes), or None for the fallback"
            )
        try:
            re.compile(self.pattern)
        except re.error as error:
            problem = f"rule {self.role!r} has pattern={self.pattern!r}: {error}"
            raise ValueError(problem) from error

    def __repr__(self):
        """The code that makes it: `Rule('mine', '^w$', 'in out')`."""
        pattern = repr(self.pattern) if "'" in self.pattern else f"r'{self.pattern}'"
        options = [
            f"{f.name}={getattr(self, f.name)}"
            for f in fields(self)[3:]
            if getattr(self, f.name) != f.default
        ]
        return f"Rule({', '.join([repr(self.role), pattern, repr(self.spec), *options])})"

    def matches(self, name: str, leaf: Any) -> bool:
        """Whether the rule is for this path and this number of axes."""
        ndim = len(leaf.shape)
        if not self.min_ndim <= ndim <= self.max_ndim:
            return False
        if isinstance(self.spec, str) and not parse(self.spec, "").fits(ndim):
            return False
        return self.finds(name)

    def finds(self, name: str) -> bool:
        """Whether the pattern is in this path, whatever the number of axes."""
        names = {name, plain_name(name)}
        return any(re.search(self.pattern, n, re.IGNORECASE) for n in names)


class Layout(tuple[Rule, ...]):
    """A tuple of rules with a short `repr`: `help(muon)` shows `dims=FLAX`.

    Attributes:
      name: The Python expression for it, such as `"FLAX"`.

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

    def __getnewargs__(self):  # copies and pickles
        return (self.name, *self)

    def __repr__(self):
        return self.name


def find_rule(
    rules: Sequence[Rule], name: str, leaf: Any, neighbours: Neighbours
) -> tuple[Rule | None, str]:
    """The first rule that matches and is not contradicted, or None with the reason."""
    problem = "no rule in `dims` fits its path and number of axes"
    for rule in rules:
        if not rule.matches(name, leaf):
            continue
        view = view_of(rule.spec, name, leaf)
        inner = neighbours.names[name]
        found = find_contradiction(view, inner, neighbours) if rule.guess else None
        if not found:
            return rule, problem
        problem = f"no rule in `dims` fits it: {rule.role!r} would, but {found}"
    return None, problem
