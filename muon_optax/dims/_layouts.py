"""Knows the trees of public libraries and models: which path has which role.

Each is a tuple of rules; the first that matches decides. Where a model leaves its output layer
without a name, put a rule for it in front.
"""

from muon_optax.dims._rules import Rule

_WEIGHT = r"(kernel|weights?|w\d*)$"

_ATTENTION = r"(q|k|v|qkv|query|key|value|attn|attention)(_proj)?(_\d+)?/"

_NO_MATRIX: tuple[Rule, ...] = (
    Rule(
        "embedding",
        r"(^|/)(?!.*patch)(\w+_)?(emb(ed(s|der|ding|dings)?)?|wte|wpe)(_\w+)?/weight$",
        None,
        max_ndim=2,
    ),
    # By whole words, but for what projects: norm_mod, ln_proj.
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
        # Not a single head of attention, which holds a query or a key.
        rf"(^|/)(?!multi_)(\w+_)?(head|classifier)(_\d+)?/(?!{_ATTENTION})(.*/)?{_WEIGHT}",
        None,
    ),
    Rule("output head", r"(?<!pre_)logit[^/]*/" + _WEIGHT, None),
    Rule("output head", r"(^|/)(unembed\w*|readout|output_layer|vocab_proj)/" + _WEIGHT, None),
    Rule("output head", r"(^|/)seq_relationship/" + _WEIGHT, None),
    Rule("router", r"router|gate_logits|moe[^/]*/gate/" + _WEIGHT, None),
    Rule(
        "depthwise convolution",
        r"(depthwise(?!\w*separable)|dw_?conv|conv_dw).*/(kernel|weight)$",
        None,
    ),
)

_VECTOR = Rule("vector or scalar", r"", None, max_ndim=1)

# Linen and nnx by role, and Gemma's einsums. Leading axes of a matrix (scanned layers, experts)
# are batch axes; all heads of an attention kernel form one matrix. A guess that its neighbours
# contradict passes the leaf on to the next rule; what no rule fits is an error.
FLAX: tuple[Rule, ...] = (
    *_NO_MATRIX,
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
    Rule(
        "attention query, key or value",
        r"(^|/)(query|key|value|[qkv])(_proj)?/kernel$",
        "... in out out",
        guess=True,
    ),
    Rule("attention output", r"(^|/)(out|o)(_proj)?/kernel$", "... in in out", guess=True),
    # Not the decoder layers that MaxText calls moe_layers, nor attention inside a block.
    Rule(
        "experts",
        r"(expert|moe)(?!\w*layers)[^/]*(/(?!\w*(general|einsum|qkv|attn|attention))[^/]+){0,2}$",
        "... experts in out",
    ),
    Rule("matrix", r"^$|(^|/)" + _WEIGHT, "in out", guess=True),
    # Not the layers whose kernel has several input or output axes in an unknown order.
    Rule(
        "stack of matrices",
        r"^(?!.*(general|einsum|qkv)[^/]*/\w+$)(.*/)?" + _WEIGHT,
        "stack in out",
        guess=True,
    ),
    _VECTOR,
)

# Every weight is [out, in], every convolution [out, in, ...]; stacks are made by filter_vmap.
EQUINOX: tuple[Rule, ...] = (
    *_NO_MATRIX,
    *(
        Rule("convolution", r"(^|/)\w*(conv|stem|patch)[^/]*/weight$", axes, guess=True)
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
    _VECTOR,
)

# Levanter's Llama, of Haliax modules: [out, in], heads as axes of their own, layers in front.
# A NamedArray's array is its first child, hence the 0.
HALIAX: tuple[Rule, ...] = (
    Rule("embedding", r"(^|/)\w*embeddings?/weight/0$", None),
    Rule("norm", r"(norm|(^|/)ln)[^/]*/weight/0$", None),
    Rule("bias or gain", r"(^|/)(bias|scale)/0$", None),
    Rule("output head", r"(^|/)(\w+_)?head/weight/0$", None),
    Rule("router", r"(router|gate)/weight/0$", None),
    Rule("attention query", r"(^|/)q_proj/weight/0$", "... out out out in"),
    Rule("attention key or value", r"(^|/)[kv]_proj/weight/0$", "... out out in"),
    Rule("attention output", r"(^|/)o_proj/weight/0$", "... out in in"),
    Rule("matrix", r"(^|/)weight/0$", "out in"),
    Rule("stack of matrices", r"(^|/)stacked/(.*/)?weight/0$", "layers out in"),
    _VECTOR,
)

_SCANNED = r"(^|/)(\w+_)?layers/(.*/)?"

# param_scan_axis=1, the default: the layers of a scanned decoder lie along every second axis.
MAXTEXT: tuple[Rule, ...] = (
    Rule("router", r"MoeBlock_\d+/gate/(kernel|bias)$", None),
    Rule(
        "attention query, key or value",
        _SCANNED + r"(query|key|value|wq_b|wkv_b)/kernel$",
        "in layers out out",
        guess=True,
    ),
    Rule("attention output", _SCANNED + r"out/kernel$", "in layers in out", guess=True),
    Rule("experts", _SCANNED + r"MoeBlock_\d+/w[io]\w*$", "experts layers in out"),
    Rule("matrix", _SCANNED + r"kernel$", "in layers out", guess=True),
    *FLAX,
)

# Hugging Face's Flax GPT-2 keeps kernels as [out, in], and query, key and value in one.
HF_GPT2: tuple[Rule, ...] = (
    Rule("attention query, key and value", r"attn/c_attn/kernel$", "out[q k v] in"),
    Rule("matrix", r"(c_attn|q_attn|c_proj|c_fc)/kernel$", "out in"),
    *FLAX,
)

# Flax's own ImageNet example leaves its classifier, at the root, without a name.
FLAX_RESNET: tuple[Rule, ...] = (Rule("output head", r"^Dense_0/kernel$", None), *FLAX)

# Optax's default: no layout of any library, and wrong on most (docs/gallery.md).
RANK_TWO: tuple[Rule, ...] = (
    Rule("two axes", r"", "in out", min_ndim=2, max_ndim=2),
    Rule("not two axes", r"", None),
)

LAYOUTS: dict[str, tuple[Rule, ...]] = {
    "flax": FLAX,
    "equinox": EQUINOX,
    "haliax": HALIAX,
    "maxtext": MAXTEXT,
    "hf_gpt2": HF_GPT2,
    "flax_resnet": FLAX_RESNET,
}
