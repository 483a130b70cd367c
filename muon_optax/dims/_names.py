"""What the words in a path mean, in any library."""

import re

UNKNOWN = "unknown name"  # the role of a leaf of two axes that matches no rule

_KERNEL = re.compile(
    r"(^|_)(kernel|weights?|w\d*|w[a-z]{1,2}(_\d)?|proj\w*)(_\w{1,2}\d?)?$", re.IGNORECASE
)
_GAIN = re.compile(
    r"(^|_)(bias|gain|norm|scale|shift|offset|gamma|beta|log)s?(_|$)", re.IGNORECASE
)
_LAYER = r"(/(linear|dense|proj|layer|conv|fc|mlp)\w*|[/_]\d+)*/(\w+_)?(kernel|weights?|w)$"
# Names that tell only the order of layers.
_NUMBERED = re.compile(
    rf"(^|/)(dense|linear|fc|layers?|mlp|proj|conv|out)(_?\d+)?{_LAYER}", re.IGNORECASE
)
_OUTPUT = re.compile(
    r"(^|[/_])(out|outputs?|predict\w*|actor\w*|critic\w*|policy\w*|q_values?|mu|pi|mean|"
    r"logits?|final\w*|last\w*|conv_out|proj_out)"
    rf"(_?\d+)?{_LAYER}|(^|/)decoder/(kernel|weight)$",
    re.IGNORECASE,
)
_ATTENTION = r"(q|k|v|qkv|query|key|value|attn|attention)(_proj)?(_\d+)?/"
# Does not match one head of an attention layer, because a query or a key is inside it.
_HEAD = re.compile(
    rf"(^|/)(?!multi_|pre_|conv_|[qkvo]_)((\w+_)?(head|classifier)(_?\d+)?|heads)/(?!{_ATTENTION})",
    re.IGNORECASE,
)
_FUSED = (  # the name of a module or kernel, and the parts of its outputs in order
    (r"w?qkv|query_key_value|c_attn", ("q", "k", "v")),
    (r"w?kv|key_value", ("k", "v")),
    (r"w12|gate_(and_)?up|up_gate|wi_fused", ("gate", "up")),
    (r"in_proj_qkvz", ("q", "k", "v", "z")),
    (r"in_proj_ba", ("b", "a")),
    (r"kv_a_proj_with_mqa", ()),  # of unequal sizes
    (r"lstm(_?cell)?(_?\d+)?(/\w*cell\w*|/linear)?", ("i", "f", "g", "o")),
    (r"gru(_?cell)?(_?\d+)?(/\w*cell\w*)?", ("r", "z", "n")),
)


def plain_name(path: str) -> str:
    """Return the path with slashes for dots, without suffixes of wrappers and weight norms."""
    path = path.replace(".", "/").replace("/parametrizations/", "/")
    return re.sub(r"/(value|data_array)$|(?<=weight)(_v|/original1)$", "", path)


def looks_like_kernel(path: str) -> bool:
    """Whether the last part of a path is a usual name for a kernel."""
    return _KERNEL.search(path.rpartition("/")[2]) is not None


def looks_like_adapter(path: str) -> bool:
    """Whether a path names a low-rank factor, which has one short dimension."""
    return re.search(r"lora|adapter", path, re.IGNORECASE) is not None


def sounds_like_gain(name: str) -> bool:
    """Whether this name, the last part of a path, is that of a bias or a gain."""
    return _GAIN.search(name) is not None


def is_in_head(path: str) -> bool:
    """Whether a module that contains the leaf is called a head or a classifier."""
    return _HEAD.search(path) is not None


def is_of_attention(path: str) -> bool:
    """Whether a layer makes queries, keys or values."""
    return re.search(rf"(^|/){_ATTENTION}\w+$", path, re.IGNORECASE) is not None


def is_named_like_last(path: str) -> bool:
    """Whether the name of a layer tells only its position among the layers."""
    return _NUMBERED.search(path) is not None


def is_named_first(path: str) -> bool:
    """Whether a layer's name says that it is the first, which reads images or audio."""
    return re.search(r"stem|patch|embed|first|(^|[/_])init", path, re.IGNORECASE) is not None


def is_named_output(path: str) -> bool:
    """Whether a layer's name calls it an output of the model or of a part of it."""
    return _OUTPUT.search(path) is not None


def parts_of(path: str) -> tuple[str, ...] | None:
    """Return the parts that a fused kernel's name tells; empty if their sizes differ."""
    for words, parts in _FUSED:
        if re.search(
            rf"(^|[/_])({words})(_proj)?(_?\d+)?/?(recurrent_)?(kernel|weights?|w)?(_[ih]h?)?$",
            path,
            re.IGNORECASE,
        ):
            return parts
    return None
