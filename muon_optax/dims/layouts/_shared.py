"""Rules that several layouts share: what is not a matrix, whatever the library."""

from muon_optax.dims._rules import Rule

WEIGHT = r"(kernel|weights?|w\d*)$"

_ATTENTION = r"(q|k|v|qkv|query|key|value|attn|attention)(_proj)?(_\d+)?/"

NOT_MATRICES: tuple[Rule, ...] = (
    Rule(
        "embedding",
        r"(^|/)(?!.*patch)(\w+_)?(emb(ed(s|der|ding|dings)?)?|wte|wpe)(_\w+)?/weight$",
        None,
        max_ndim=2,
    ),
    # Whole words, except layers that project, such as norm_mod and ln_proj.
    Rule(
        "norm",
        r"(norm|(^|/)ln)(?!\w*(proj|mod|dense|linear|fc|mlp))\w*/(weight|w)$",
        None,
    ),
    Rule("bias or gain", r"(^|[/_])(bias|scale|gamma|beta)$", None),
    Rule("embedding", r"(^|_|/)(pos)?emb(ed(ding)?s?)?(_table)?$", None),
    Rule("token or position table", r"(^|/)(wte|wpe|cls|probe)$|_token$", None),
    Rule("position table", r"(^|[/_])pos(ition)?s?(_?enc(oding)?)?$", None),
    Rule(
        "output head",
        # Not one head of an attention layer, which contains a query or a key.
        rf"(^|/)(?!multi_)(\w+_)?(head|classifier)(_\d+)?/(?!{_ATTENTION})(.*/)?{WEIGHT}",
        None,
    ),
    Rule("output head", r"(?<!pre_)logit[^/]*/" + WEIGHT, None),
    Rule("output head", r"(^|/)(unembed\w*|readout|output_layer|vocab_proj)/" + WEIGHT, None),
    Rule("output head", r"(^|/)seq_relationship/" + WEIGHT, None),
    Rule("router", r"router|gate_logits|moe[^/]*/gate/" + WEIGHT, None),
    Rule(
        "depthwise convolution",
        r"(depthwise(?!\w*separable)|dw_?conv|conv_dw).*/(kernel|weight)$",
        None,
    ),
)

VECTOR = Rule("vector or scalar", r"", None, max_ndim=1)
