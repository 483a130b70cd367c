"""The layout of Haliax as Levanter's Llama uses it: `[out, in]`, each head axis of its own."""

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
    Rule("matrix", r"(^|/)weight/0$", "out in"),
    Rule("stack of matrices", r"(^|/)stacked/(.*/)?weight/0$", "layers out in"),
    VECTOR,
)
