"""The layout of Hugging Face's Flax models; GPT-2's kernels are `[out, in]` and fused."""

from muon_optax.dims._rules import Layout, Rule
from muon_optax.dims.layouts._flax import FLAX

HUGGING_FACE = Layout(
    "LAYOUTS['hugging_face']",
    Rule("attention query, key and value", r"attn/c_attn/kernel$", "out[q k v] in"),
    Rule("matrix", r"(c_attn|q_attn|c_proj|c_fc)/kernel$", "out in"),
    Rule("convolution", r"conv[^/]*/weight_v$", "out in in"),  # with a weight norm
    *FLAX,
)
