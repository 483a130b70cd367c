"""Knows what a rule is: a role, and the paths and ranks that have it."""

import math
import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from optax.contrib import MuonDimensionNumbers

from muon_optax.dims._consistency import Neighbours, contradiction
from muon_optax.dims._spec import parse
from muon_optax.dims._view import Spec, view_of


@dataclass(frozen=True)
class Rule:
    """A role, and how its leaves are recognised and seen as matrices.

    Attributes:
      role: What such a leaf is, in words.
      pattern: A regular expression searched in the leaf's path, `"blocks/0/mlp/kernel"`,
        whatever the case.
      spec: A string with a word for each axis, which also says how many axes a leaf has; or
        axes counted from the end, so that leading batch axes may come before; None for a
        leaf that is no matrix.
      min_ndim: The rule holds for leaves of at least so many axes,
      max_ndim: and at most so many.
      guess: Whether the leaf's neighbours may contradict the rule, which passes the leaf on
        to the next: a kernel's bias, the rest of an attention layer, of a stack.

    Raises:
      ValueError: If the spec is none or a string that cannot be read, or the pattern is no
        regular expression.

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
        elif self.spec is not None and not isinstance(self.spec, MuonDimensionNumbers):
            raise ValueError(
                f"rule {self.role!r} has spec={self.spec!r}; use a string such as 'in out', "
                "MuonDimensionNumbers(in_axes, out_axes), or None for the fallback"
            )
        try:
            re.compile(self.pattern)
        except re.error as error:
            problem = f"rule {self.role!r} has pattern={self.pattern!r}: {error}"
            raise ValueError(problem) from error

    def matches(self, name: str, leaf: Any) -> bool:
        """Whether path and number of axes are the rule's."""
        ndim = len(leaf.shape)
        if not self.min_ndim <= ndim <= self.max_ndim:
            return False
        if isinstance(self.spec, str) and not parse(self.spec, "").fits(ndim):
            return False
        return re.search(self.pattern, name, re.IGNORECASE) is not None


def find_rule(
    rules: Sequence[Rule], name: str, leaf: Any, neighbours: Neighbours
) -> tuple[Rule | None, str]:
    """The first rule that matches a leaf and that no neighbour contradicts.

    Args:
      rules: In order of precedence.
      name: The leaf's path.
      leaf: The leaf.
      neighbours: All leaves, against which a guess is checked.

    Returns:
      The rule, and what spoke against those before it; None if there is no rule.
    """
    problem = "no rule knows its role"
    for rule in rules:
        if not rule.matches(name, leaf):
            continue
        view = view_of(rule.spec, name, leaf)
        doubt = contradiction(view, name, neighbours) if rule.guess and view else None
        if not doubt:
            return rule, problem
        problem = f"it looks like {rule.role!r}, but {doubt}"
    return None, problem
