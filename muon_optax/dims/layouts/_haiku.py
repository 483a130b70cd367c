"""The layout of Haiku and AlphaFold: `w` is `[in, out]`, convolutions are HWIO."""

from muon_optax.dims._rules import Layout, Rule
from muon_optax.dims.layouts._shared import NOT_MATRICES, VECTOR

_WEIGHT = r"(w|weights|kernel)$"
_INPUTS = r"(^|/)\w*(query|key|value|gating|[qkv])_w(eights)?$"

HAIKU = Layout(
    "LAYOUTS['haiku']",
    Rule("bias", r"(^|[/_])b$", None),
    Rule("output head", r"(^|/)(\w+_)?(head|classifier)(_?\d+)?/(~/)?" + _WEIGHT, None),
    *NOT_MATRICES,
    Rule("transposed convolution", r"conv[^/]*transpose[^/]*/w$", "in in out in"),
    Rule("transposed convolution", r"conv1d_transpose[^/]*/w$", "in out in"),
    *(
        Rule("convolution", r"conv[^/]*/w$", axes)
        for axes in ("in in out", "in in in out", "in in in in out")
    ),
    Rule("attention query, key or value", _INPUTS, "... in out out", guess=True),
    Rule(
        "attention output", r"(^|/)\w*(output|out|o)_w(eights)?$", "... in in out", guess=True
    ),
    Rule("recurrent kernel", r"(^|/)w_[ih]$", "in out"),
    Rule("matrix", r"^$|(^|/)(\w+_)?" + _WEIGHT, "in out", guess=True),
    Rule("stack of matrices", r"(^|/)(\w+_)?" + _WEIGHT, "stack in out", guess=True),
    VECTOR,
)
