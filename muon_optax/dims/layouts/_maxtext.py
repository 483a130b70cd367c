"""The layout of MaxText: that of Flax, but with scanned layers along the second axis."""

from muon_optax.dims._rules import Layout, Rule
from muon_optax.dims.layouts._flax import FLAX

_SCANNED = r"(^|/)(\w+_)?layers/(.*/)?"

# Written for `param_scan_axis=1`, MaxText's default.
MAXTEXT = Layout(
    "LAYOUTS['maxtext']",
    Rule("router", r"(^|/)gate/kernel$", None),
    Rule(
        "attention query, key or value",
        _SCANNED + r"(query|key|value|wq_b|wkv_b)/kernel$",
        "in layers out out",
        guess=True,
    ),
    Rule("attention output", _SCANNED + r"out/kernel$", "in layers in out", guess=True),
    Rule("experts", _SCANNED + r"w[io](_\d+)?$", "experts layers in out"),
    Rule("matrix", _SCANNED + r"kernel$", "in layers out", guess=True),
    *FLAX,
)
