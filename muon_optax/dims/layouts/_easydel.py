"""The layout of EasyDeL: Hugging Face's names, with kernels as in Flax."""

from muon_optax.dims._rules import Layout, Rule
from muon_optax.dims.layouts._flax import FLAX

EASYDEL = Layout(
    "LAYOUTS['easydel']",
    Rule("router", r"(^|/)(mlp|moe|block_sparse_moe)/gate/kernel$", None),
    *FLAX,
)
