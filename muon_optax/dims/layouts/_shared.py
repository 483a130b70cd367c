"""Rules that several layouts share, for leaves that are not matrices in any library."""

from muon_optax.dims._rules import Rule

WEIGHT = r"(kernel|weights?|w\d*)$"

_TABLE = (
    r"((\w+_)?(emb(ed(s|der|ding|dings)?)?|wte|wpe|shared|codebooks?|lookup|tables?)"
    r"(_(?!\w*(proj|map|linear|mlp|fc|dense|conv))\w+)?|emb\w*/(\d+|pe_\w+))"
)

NOT_MATRICES: tuple[Rule, ...] = (
    Rule("bias", r"(^|[/_])bias(es)?(_\w+)?$", None),
    Rule(
        "gain",
        r"(^|[/_])(scales?|gains?|gamma|beta|offset|temperature|alpha|lambda\w*|layer_?scale|ls\d|weight_g|weight/original0)$",
        None,
    ),
    # Matches whole words, but not projections such as norm_mod and ln_proj.
    Rule(
        "norm",
        r"(norm(?!al_)|(^|[/_])(ln|bn))(?!\w*(proj|mod|dense|linear|fc|mlp))\w*/(weight|w|kernel)$",
        None,
    ),
    # In state-space models and linear attention: one number for each channel and state.
    Rule(
        "decay, mix or sink",
        r"(^|/)(A_?logs?|Ds?|dt(_bias)?|log_\w+|time_(decay|first|mix|maa|faaaa)\w*|\w*sinks?)$",
        None,
    ),
    Rule(
        "table",
        r"(^|[/_])(rel(ative|_)\w*(bias|pos|emb)|emb_rel)\w*(/(weight|embedding))?$",
        None,
        guess=True,
    ),
    Rule(
        "embedding",
        rf"(^|/)(?!\w*patch)({_TABLE}|\w*tokens?|\w*position_encoding)/weight$",
        None,
        max_ndim=2,
        guess=True,
    ),
    Rule("embedding", r"(^|_|/)((pos)?emb(ed(ding)?s?)?(_table)?|\w*_table)$", None),
    Rule(
        "table",
        r"(^|/)(wte|wpe|cls|probe|latents?|code(book|vector)s?|quer(y|ies)_embed)$|_tokens?_?\d*$",
        None,
    ),
    Rule(
        "table",
        r"(^|[/_])pos(ition(al)?)?s?(_?(enc(oding)?|emb(ed(ding)?)?|table))?s?_?\d*$",
        None,
    ),
    Rule(
        "output head",
        r"(^|/)(?!multi_|pre_|conv_|[qkvo]_)(\w+_)?(head|classifier)(_?\d+)?/" + WEIGHT,
        None,
    ),
    Rule("output head", r"(?<!pre_)logit[^/]*/" + WEIGHT, None),
    Rule("output head", r"(^|/)(unembed\w*|readout|output_layer|vocab_proj)/" + WEIGHT, None),
    Rule("output head", r"(^|/)seq_relationship/" + WEIGHT, None),
    Rule("router", r"router|gate_logits|moe[^/]*/gate/" + WEIGHT + r"|expert_gate/", None),
    Rule(
        "depthwise convolution",
        r"(depthwise(?!\w*separable)|dw_?conv|conv_?dw).*/(kernel|weights?|w)$|depthwise_kernel$",
        None,
    ),
)

VECTOR = Rule("vector or scalar", r"", None, max_ndim=1)
