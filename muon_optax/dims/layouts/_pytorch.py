"""The layout of PyTorch, for models ported by name: weights `[out, in]`, convolutions OIHW."""

from muon_optax.dims._rules import Layout, Rule
from muon_optax.dims.layouts._equinox import EQUINOX

PYTORCH = Layout(
    "LAYOUTS['pytorch']",
    *(
        Rule(
            "transposed convolution", r"conv\w*transpose[^/]*/weight$|(^|/)upconv\w*/weight$", a
        )
        for a in ("in out in", "in out in in", "in out in in in")
    ),
    Rule("attention query, key and value", r"(^|/)in_proj_weight$", "out[q k v] in"),
    Rule("recurrent kernel", r"(^|/)weight_(ih|hh)(_l\d+)?(_reverse)?$", "out in"),
    Rule("low-rank factor", r"lora_[ab](/\w+)?(/weight)?$", "out in"),
    Rule(
        "experts",
        r"expert[^/]*/(\w+_)?(proj|w\d|weight)(/weight)?$",
        "experts out in",
        guess=True,
    ),
    Rule(
        "experts",
        r"expert[^/]*/(\w+_)?(proj|w\d|weight)(/weight)?$",
        "experts in out",
        guess=True,
    ),
    *EQUINOX[:-1],
    Rule("matrix", r"_weight$", "out in"),
    Rule("stack of matrices", r"_weight$", "stack out in", guess=True),
    # The Conv1D of Hugging Face's GPT-2 is `[in, out]`; its bias shows the order.
    Rule("matrix", r"(^|/)weight$", "in out", guess=True),
    Rule("transposed convolution", r"(^|/)weight$", "in out in in", guess=True),
    Rule("transposed convolution", r"(^|/)weight$", "in out in", guess=True),
    EQUINOX[-1],
)
