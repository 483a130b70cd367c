"""Optax's default: a leaf is a matrix `[in, out]` if it has two axes.

It is wrong for most models: `docs/gallery.md` counts the mistakes.
"""

from muon_optax.dims._rules import Layout, Rule

RANK_TWO = Layout(
    "dims.RANK_TWO",
    Rule("two axes", r"", "in out", min_ndim=2, max_ndim=2),
    Rule("not two axes", r"", None),
)
