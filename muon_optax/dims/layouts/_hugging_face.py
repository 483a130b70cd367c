"""The layout of Hugging Face's Flax GPT-2: kernels `[out, in]`, query, key and value fused."""

from muon_optax.dims._rules import Layout, Rule
from muon_optax.dims.layouts._flax import FLAX

HF_GPT2 = Layout(
    "LAYOUTS['hf_gpt2']",
    Rule("attention query, key and value", r"attn/c_attn/kernel$", "out[q k v] in"),
    Rule("matrix", r"(c_attn|q_attn|c_proj|c_fc)/kernel$", "out in"),
    *FLAX,
)
