"""The result of `dims` for one leaf."""

from typing import NamedTuple

from muon_optax.dims._rules import Rule
from muon_optax.dims._view import MatrixView, Spec


class Assignment(NamedTuple):
    """How `dims` reads one leaf.

    Attributes:
      path: The leaf's path, such as `"layers/0/kernel"`.
      view: How the leaf is read as matrices; None if it is not a matrix.
      rule: The rule that decided; None if a spec decided.
      evidence: Why the leaf has this role, if other leaves decided it; None if its name did.
      doubt: Why the result may be wrong; None if nothing looks wrong.
      proposal: The spec to use if the doubt is justified.
    """

    path: str
    view: MatrixView | None
    rule: Rule | None
    evidence: str | None = None
    doubt: str | None = None
    proposal: Spec = None
