"""The layout of Haliax in Levanter's Llama: `[out, in]`, with separate axes for heads."""

from muon_optax.dims._rules import Layout, Rule
from muon_optax.dims.layouts._shared import VECTOR

# Every path ends in 0, because the array of a NamedArray is its first child.
HALIAX = Layout(
    "LAYOUTS['haliax']",
    Rule("embedding", r"(^|/)\w*embeddings?/weight/0$", None),
    Rule("norm", r"(norm|(^|/)ln)[^/]*/weight/0$", None),
    Rule("bias or gain", r"(^|/)(bias|scale)/0$", None),
    Rule("output head", r"(^|/)(\w+_)?head/weight/0$", None),
    Rule("router", r"(router|gate)/weight/0$", None),
    Rule("attention query", r"(^|/)q_proj/weight/0$", "... out out out in"),
    Rule("attention key or value", r"(^|/)[kv]_proj/weight/0$", "... out out in"),
    Rule("attention output", r"(^|/)o_proj/weight/0$", "... out in in"),
    # Levanter's GPT-2 has the inputs first.
    Rule("attention query, key and value", r"(^|/)c_attn/weight/0$", "... in parts out out"),
    Rule("attention output", r"attn/c_proj/weight/0$", "... in in out"),
    Rule("experts", r"expert[^/]*/\w+/weight/0$", "... experts in out"),
    # A bias tells which order a layer has.
    Rule("matrix", r"(^|/)weight/0$", "out in", guess=True),
    Rule("matrix", r"(^|/)weight/0$", "in out", guess=True),
    Rule("stack of matrices", r"(^|/)stacked/(.*/)?weight/0$", "layers out in", guess=True),
    Rule("stack of matrices", r"(^|/)stacked/(.*/)?weight/0$", "layers in out", guess=True),
    VECTOR,
)
