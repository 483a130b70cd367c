"""The layout of Keras by `variable.path`: kernels `[in, out]`, convolutions HWIO."""

from muon_optax.dims._rules import Layout, Rule
from muon_optax.dims.layouts._flax import FLAX

KERAS = Layout(
    "LAYOUTS['keras']",
    Rule("embedding", r"(^|[/_])embeddings$", None),
    Rule(
        "depthwise convolution",
        r"depthwise[^/]*/(depthwise_)?kernel$|/depthwise_kernel$",
        None,
    ),
    Rule("convolution", r"/pointwise_kernel$", "in in out"),
    Rule("convolution", r"/pointwise_kernel$", "in in in out"),
    Rule("transposed convolution", r"conv1d_transpose[^/]*/kernel$", "in out in"),
    Rule("transposed convolution", r"conv2d_transpose[^/]*/kernel$", "in in out in"),
    Rule("transposed convolution", r"conv3d_transpose[^/]*/kernel$", "in in in out in"),
    Rule("recurrent kernel", r"/recurrent_kernel$", "in out"),
    Rule("attention output", r"(^|/)attention_output/kernel$", "in in out"),
    *(
        Rule("attention query, key or value", r"/(query|key|value)/kernel$", axes, guess=True)
        for axes in ("in out out", "out in out")  # the second is Gemma's
    ),
    *FLAX,
)
