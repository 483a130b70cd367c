"""The layout of Flax (linen and nnx) and of models written in it: kernels `[in, out]`."""

from muon_optax.dims._rules import Layout, Rule
from muon_optax.dims.layouts._shared import NOT_MATRICES, VECTOR, WEIGHT

_KERNEL = r"(_proj)?(/Linear)?/(kernel|weights|w)$"
_QUERY = r"(^|/)(query|key|value|[qkv])" + _KERNEL
_OUTPUT = r"(^|/)(output|out|o)" + _KERNEL

# Leading axes of a matrix (scanned layers, experts) are batch axes. All heads of an attention
# kernel form one matrix. Gemma's einsums are read by their names.
FLAX = Layout(
    "FLAX",
    *NOT_MATRICES,
    Rule("unshared convolution", r"ConvLocal[^/]*/kernel$", "... places in out"),
    *(
        Rule(
            "convolution",
            r"(conv|(^|[/_])(stem|patch|embedding))[^/]*/kernel$",
            axes,
            guess=True,
        )
        for axes in (
            "in in out",
            "in in in out",
            "in in in in out",
            "layers in in out",
            "layers in in in out",
        )
    ),
    Rule("attention query", r"(^|/)q_einsum/(w|kernel)$", "... out in out"),
    Rule("attention key and value", r"(^|/)q?kv_einsum/(w|kernel)$", "... parts out in out"),
    Rule("attention output", r"(^|/)attn_vec_einsum/(w|kernel)$", "... in in out"),
    Rule("gate and up", r"(^|/)gating_einsum$", "... gate_up in out", guess=True),
    Rule("gate and up", r"(^|/)gating_einsum$", "... gate_up out in", guess=True),
    Rule("matrix", r"(^|/)mlp/linear$", "... in out"),
    *(  # the second pair is for groups of queries, each group with its own key
        rule
        for query, output in (
            ("... in out out", "... in in out"),
            ("in out out out", "in in in out"),
        )
        for rule in (
            Rule("attention query, key or value", _QUERY, query, guess=True),
            Rule("attention output", _OUTPUT, output, guess=True),
        )
    ),
    Rule("matrix", r"(^|/)w_?(q|k|v|o|i|in|out|up|down|gate|qkv|kv)(_\d+)?$", "in out"),
    Rule("low-rank factor", r"lora_?[ab](/(kernel|weight))?$", "in out"),
    Rule("low-rank factor", r"lora_?a(/(kernel|weight))?$", "in in out", guess=True),
    Rule("low-rank factor", r"lora_?b(/(kernel|weight))?$", "in out out", guess=True),
    Rule("matrix", r"(^|/)w\[[^/]*$", "... in out"),  # e3nn, for two irreps
    # Matches neither MaxText's moe_layers, which are decoder layers, nor attention in a block.
    Rule(
        "experts",
        r"(expert|moe)(?!\w*layers)[^/]*(/(?!\w*(general|einsum|qkv|attn|attention))[^/]+){0,2}$",
        "... experts in out",
    ),
    Rule("matrix", r"^$|(^|/)" + WEIGHT, "in out", guess=True),
    # Does not match a layer whose several input or output axes are in an unknown order.
    Rule(
        "stack of matrices",
        r"^(?!.*(general|einsum|qkv)[^/]*/\w+$)(.*/)?" + WEIGHT,
        "stack in out",
        guess=True,
    ),
    VECTOR,
)
