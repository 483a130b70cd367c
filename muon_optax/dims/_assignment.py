"""What `dims` says of one leaf."""

from typing import NamedTuple

from muon_optax.dims._rules import Rule
from muon_optax.dims._view import MatrixView


class Assignment(NamedTuple):
    """The result for one leaf.

    Attributes:
      path: The leaf's path, such as `"layers/0/kernel"`.
      view: How the leaf is read as matrices; None if it is not a matrix.
      rule: The rule that decided; None if a spec decided.
      doubt: Why the result may be wrong; None if nothing looks wrong.
    """

    path: str
    view: MatrixView | None
    rule: Rule | None
    doubt: str | None = None
