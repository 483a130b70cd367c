"""The layout of Equinox: weights `[out, in]`, convolutions `[out, in, ...]`."""

from muon_optax.dims._rules import Layout, Rule
from muon_optax.dims.layouts._shared import NOT_MATRICES, VECTOR

# `eqx.filter_vmap` makes the stacks of layers.
EQUINOX = Layout(
    "EQUINOX",
    *NOT_MATRICES,
    *(
        Rule("convolution", r"(^|/)\w*(conv|stem|patch)[^/]*(/\d+)?/weight$", axes, guess=True)
        for axes in (
            "out in in",
            "out in in in",
            "out in in in in",
            "layers out in in",
            "layers out in in in",
        )
    ),
    Rule("convolution", r"(^|/)weight$", "out in in in", guess=True),
    Rule("matrix", r"^$|(^|/)weight(_ih|_hh)?$", "out in", guess=True),
    Rule("stack of matrices", r"(^|/)weight(_ih|_hh)?$", "stack out in", guess=True),
    VECTOR,
)
