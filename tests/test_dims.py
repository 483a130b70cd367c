"""Who is a matrix: the rules on real Flax models, specs in every form, views."""

import collections
import math
import time

import flax
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from flax import nnx
from models import LinenConvNet, LinenTransformer, NnxStack, NnxTransformer, linen_shapes
from trees import leaves, numbers, sides, table, under

from muon_optax import EQUINOX, FLAX, LAYOUTS, MuonDimensionNumbers, Rule
from muon_optax.dims import resolve, view_of

SPEC_2D = MuonDimensionNumbers(0, 1)
TOKENS = jnp.zeros((1, 8), jnp.int32)
IMAGES = jnp.zeros((1, 8, 8, 3))


def linen_block(batch):
    """A layer with 4 heads of 8, width 32."""
    attention = table(f"""
        query/kernel:{batch},32,32 key/kernel:{batch},32,32 value/kernel:{batch},32,32
        out/kernel:{batch},32,32 query/bias key/bias value/bias out/bias""")
    return under("MultiHeadDotProductAttention_0", attention) | table(f"""
        Dense_0/kernel:{batch},32,64 Dense_0/bias Dense_1/kernel:{batch},64,32 Dense_1/bias
        LayerNorm_0/scale LayerNorm_0/bias LayerNorm_1/scale LayerNorm_1/bias""")


LINEN_SHELL = table("""
    Embed_0/embedding pos_embedding LayerNorm_0/scale LayerNorm_0/bias
    lm_head/kernel lm_head/bias""")
LINEN_CONV_NET = table("""
    conv_init/kernel:1,27,16 conv_init/bias Conv_0/kernel:1,144,32 Conv_0/bias
    ConvTranspose_0/kernel:1,128,16 ConvTranspose_0/bias Dense_0/kernel:1,16,24 Dense_0/bias
    head/kernel head/bias BatchNorm_0/scale BatchNorm_0/bias GroupNorm_0/scale GroupNorm_0/bias
""")
NNX_TRANSFORMER = table("""
    attention/query/kernel:1,32,32 attention/query/bias attention/key/kernel:1,32,32
    attention/key/bias attention/value/kernel:1,32,32 attention/value/bias
    attention/out/kernel:1,32,32 attention/out/bias tokens/embedding norm/scale
    up/kernel:1,32,64 up/bias down/kernel:1,64,32 down/bias
    experts_up:6,32,16 router/kernel router/bias lm_head/kernel lm_head/bias""")


def test_every_leaf_of_a_linen_transformer_has_its_role_scanned_or_not():
    blocks = under("LinenBlock_0", linen_block(1)) | under("LinenBlock_1", linen_block(1))
    assert sides(linen_shapes(LinenTransformer(), TOKENS)) == LINEN_SHELL | blocks
    scanned = linen_shapes(LinenTransformer(scanned=True), TOKENS)
    assert sides(scanned) == LINEN_SHELL | under("blocks", linen_block(3))


def test_every_leaf_of_a_linen_conv_net_has_its_role():
    assert sides(linen_shapes(LinenConvNet(), IMAGES)) == LINEN_CONV_NET


def test_every_leaf_of_an_nnx_transformer_has_its_role_stacked_or_not():
    """A leading stack axis is a batch axis."""
    stacked = {n: v and (3 * v[0], *v[1:]) for n, v in NNX_TRANSFORMER.items()}
    roles = {NnxTransformer: NNX_TRANSFORMER, NnxStack: under("blocks", stacked)}
    for model, expected in roles.items():
        params = nnx.state(nnx.eval_shape(lambda model=model: model(nnx.Rngs(0))), nnx.Param)
        assert sides(params) == expected


# Leaves that are read alone: path:shape:sides, or path:shape for the fallback.
SINGLE = """
    depthwise_conv/kernel:3,3,1,8 depthwise/conv/kernel:7,7,1,64 conv_dw/kernel:3,3,1,8
    moe_layers/wi_bias:12,8,32 experts/gate_up_proj_bias:3,8,32 moe/gate/kernel:12,32,8
    MoeBlock_0/gate/gate_logits:12,32,8 input_layernorm/weight:12,32 layers/q_norm/weight:12,8
    ln_1/weight:32 FiLM_0/gamma:12,32 mlp_head/kernel:32,10 mlp_head/layers_0/kernel:32,10
    unembed/kernel:32,10 output_layer/kernel:32,10 pos:64,32 position_encoding:1,64,32
    head_0/kernel:32,10 logits_dense/kernel:32,10 embedder/input_embedding:64,32
    posembed_input/pos_embedding:1,64,32 cls_token:1,1,32 wpe:64,32 temperature:
    layers/LayerNorm_0/scale:12,32 token_embedding/weight:50,8 wte/weight:50,8
    classifier/dense/kernel:64,64 classifier/out_proj/kernel:64,10 lm_head/vocab/kernel:64,256
    policy_head/out/kernel:64,6 ln_attn/weight:12,64 blocks/norm_ff/weight:12,64
    layernorm_before/weight:12,64
    conv1d/kernel:5,4,8:1,20,8 conv3d/kernel:3,3,3,4,8:1,108,8
    ConvLocal_0/kernel:6,6,36,8:36,36,8 patch_embedding/kernel:4,4,3,32:1,48,32
    MoEBlock/wi:8,16,32:8,16,32 layers/experts/wo:3,8,16,32:24,16,32
    query/kernel:32,16:1,32,16 layers/query/kernel:3,32,4,8:3,32,32
    attn/q_proj/kernel:32,4,8:1,32,32 attn/o_proj/kernel:4,8,32:1,32,32
    moe_layers/self_attention/query/kernel:12,32,4,8:12,32,32
    moe_layers/self_attention/out/kernel:12,4,8,32:12,32,32
    experts/gate_proj/kernel:8,16,32:8,16,32 dispatch/kernel:3,32,32:3,32,32
    system/kernel:3,32,32:3,32,32 multi_head/kernel:32,32:1,32,32
    overhead/kernel:32,32:1,32,32 pre_logits/kernel:32,64:1,32,64
    mlp/member/kernel:32,64:1,32,64 OptimizedLSTMCell_0/hi/kernel:16,16:1,16,16
    w1:16,8:1,16,8 experts_0/gate/kernel:768,2048:1,768,2048 experts/gate:8,768,2048:8,768,2048
    Head_0/key/kernel:32,8:1,32,8 attention_head_1/q/kernel:32,8:1,32,8
    ensemble/weight:6,8:1,6,8 DepthwiseSeparableConv_0/Conv_1/kernel:1,1,32,64:1,32,64
    norm_mod/weight:12,8:1,12,8 ln_proj/weight:12,8:1,12,8 MoeBlock_0/wi_0:8,4,6:8,4,6"""


def test_single_leaves_have_their_role():
    for word in SINGLE.split():
        path, shape, *found = word.split(":")
        expected = numbers(found[0]) if found else None
        assert sides(leaves(f"{path}:{shape}")) == {path: expected}


def test_a_stack_agrees_with_its_neighbours():
    """Bias-free stacks pass by their norms and kernels; a masked tree, without them, too."""
    params = leaves("""
        layers/attn/q_proj/kernel:12,32,32 layers/attn/o_proj/kernel:12,32,32
        layers/norm/scale:12,32 layers/mlp/up/kernel:12,32,64 embedding:50,32""")
    assert sides(params) == table("""
        layers/attn/q_proj/kernel:12,32,32 layers/attn/o_proj/kernel:12,32,32
        layers/norm/scale layers/mlp/up/kernel:12,32,64 embedding""")
    lonely = leaves("a/kernel:12,3,4 b/kernel:5,6")
    lonely["a"]["scale"] = optax.MaskedNode()
    assert sides(lonely)["a/kernel"] == (12, 3, 4)


@pytest.mark.parametrize(
    ("names", "kv"),
    [("query key value out", 8), ("q k v o", 4), ("q_proj k_proj v_proj o_proj", 2)],
)
def test_heads_and_stacks_of_plain_layers_are_told_apart_by_query_and_output(names, kv):
    """A stack of 12 layers 32 → 64 reads like one kernel of 32 heads; the output does not."""
    q, k, v, o = (f"{name}/kernel" for name in names.split())
    heads = f"{q}:32,8,4 {k}:32,{kv},4 {v}:32,{kv},4 {o}:8,4,32"
    matrices = f"{q}:1,32,32 {k}:1,32,{4 * kv} {v}:1,32,{4 * kv} {o}:1,32,32"
    assert sides(leaves(heads)) == table(matrices)
    plain = f"{q}:12,32,64 {k}:12,32,{8 * kv} {v}:12,32,{8 * kv} {o}:12,64,32"
    assert sides(leaves(plain)) == table(plain)


def test_an_output_among_layers_of_fused_attention_is_a_stack():
    """Nothing but the axis in front of all tells it from an output of heads."""
    rules = (Rule("fused", "c_attn/kernel$", "layers in out[q=64 k=16 v=16]"), *FLAX)
    fused = "{0}/c_attn/kernel:6,64,96 {0}/o/kernel:6,64,64 attn/o/kernel:6,64,64"
    for module in ("attn", "mlp"):
        for norm in ("", " {0}/norm/scale:6,64"):
            params = leaves((fused + norm).format(module))
            assert sides(params, rules)["attn/o/kernel"] == (6, 64, 64)
    heads = leaves("qkv/kernel:64,12,8 o/kernel:4,16,64")
    rules = (Rule("fused", "qkv/kernel$", "in out out"), *FLAX)
    assert sides(heads, rules)["o/kernel"] == (1, 64, 64)


def test_scanned_convolutions_are_a_stack():
    for rules, path, shape, expected in (
        (FLAX, "conv/kernel", "12,3,3,4,8", (12, 36, 8)),
        (FLAX, "conv/kernel", "12,3,4,8", (12, 12, 8)),
        (EQUINOX, "conv/weight", "12,8,4,3", (12, 12, 8)),
        (EQUINOX, "conv/weight", "12,8,4,3,3", (12, 36, 8)),
    ):
        for beside in ("conv/bias", "norm/scale"):
            params = {"blocks": leaves(f"{path}:{shape} {beside}:12,8")}
            assert sides(params, rules)[f"blocks/{path}"] == expected


def test_a_stack_of_plain_layers_with_names_of_attention_is_a_stack():
    for names, n in (("query key value proj", 12), ("in_proj out_proj", 24), ("in out", 6)):
        stack = " ".join(f"block/{name}/kernel:{n},32,32" for name in names.split())
        norm = {"norm/scale": None}
        assert sides(leaves(f"{stack} norm/scale:{n},32")) == table(stack) | norm


def test_inputs_of_attention_that_begin_with_the_width_are_no_stack():
    heads = "query/kernel:64,4,16 key/kernel:64,2,16 value/kernel:64,2,16 "
    expected = table("query/kernel:1,64,64 key/kernel:1,64,32 value/kernel:1,64,32")
    for beside in ("", "out/kernel:64,64", "proj/kernel:64,64", "ln/scale:64"):
        found = sides({"attn": leaves(heads + beside)})
        assert found.items() >= under("attn", expected).items()


def test_a_norm_over_channels_and_pixels_is_no_stacks():
    params = leaves("conv1/weight:16,8,3,3 norm/weight:16,8,8 norm/bias:16,8,8")
    assert sides(params, EQUINOX)["conv1/weight"] == (1, 72, 16)


def test_layers_along_the_second_axis_are_as_many_beside():
    params = leaves("layers/mlp/kernel:4,64,64 up/kernel:64,9")
    for rules in (FLAX, LAYOUTS["maxtext"]):
        with pytest.raises(
            ValueError,
            match=r"(in a stack all shapes begin with 4|all second axes would be 4 layers)",
        ):
            sides(params, rules)


def test_an_output_of_flattened_heads_is_no_contradiction():
    params = leaves("query/kernel:32,4,8 out/kernel:32,16")
    assert sides(params) == {"query/kernel": (1, 32, 32), "out/kernel": (1, 32, 16)}


def test_equinox_keeps_patches_and_members_apart_from_embeddings():
    params = leaves("patch_embed/weight:768,3,16,16 member/weight:6,8 embedding/weight:50,8")
    expected = table("patch_embed/weight:1,768,768 member/weight:1,8,6 embedding/weight")
    assert sides(params, EQUINOX) == expected


@pytest.mark.slow
def test_six_thousand_layers_take_their_time_once():
    """Linear in the leaves: each is checked against its own module alone."""
    layer = leaves("conv/kernel:3,3,4,8 out/kernel:4,8,32")
    params = {f"layer_{i}": layer for i in range(3000)}
    start = time.process_time()  # not the wall's: others may have the cores
    assert len(sides(params)) == 6000
    assert time.process_time() - start < 4


def test_a_bare_array_is_a_matrix():
    for dims in (FLAX, None, "in out", SPEC_2D):
        (view,) = resolve(dims, jnp.ones((3, 4)))
        assert (view.reduction, view.output, view.sides) == ((0,), (1,), ((1, 3, 4),))


def test_a_rule_works_alone_and_wins_in_front():
    assert sides(leaves("u:2,3"), Rule("u", "u", SPEC_2D)) == {"u": (1, 2, 3)}
    rules = (Rule("adapter", r"lora_a$", SPEC_2D), *FLAX)
    assert sides(leaves("lora_a:8,2"), rules) == {"lora_a": (1, 8, 2)}


PARAMS = {"layers": [leaves("w:2,3,4 b:4")] * 2} | leaves("head:4,5")
SPEC = MuonDimensionNumbers((1,), 2)
LAYER = {"w": SPEC, "b": None}
RULES = (Rule("w", r"w$", SPEC), Rule("head", "head", SPEC_2D), Rule("rest", "", None))
EXPECTED = table("layers/0/w:2,3,4 layers/0/b layers/1/w:2,3,4 layers/1/b head:1,4,5")


@pytest.mark.parametrize(
    "dims",
    [
        {"layers": [LAYER, LAYER], "head": MuonDimensionNumbers(-2, -1)},
        flax.core.freeze({"layers": {"0": LAYER, "1": LAYER}, "head": SPEC_2D}),
        lambda params: {"layers": [LAYER, LAYER], "head": SPEC_2D},
        lambda params: RULES,
    ],
    ids=["tree", "frozen", "callable", "callable rules"],
)
def test_specs_come_as_a_tree_a_function_or_rules(dims):
    assert sides(PARAMS, dims) == EXPECTED


def test_the_dimension_numbers_of_another_library_are_taken():
    """A copy of Optax's class, as MaxText has one."""
    theirs = collections.namedtuple("Theirs", ["reduction_axis", "output_axis"])
    for dims in (
        {"a": theirs(1, 0), "b": None},
        (Rule("a", "a", theirs(1, 0)), Rule("b", "b", None)),
    ):
        assert sides(leaves("a:2,3 b:4,5"), dims) == table("a:1,3,2 b")


def test_a_prefix_serves_all_below_it():
    params = leaves("a/x:2,3 a/y:4,5 b/z:6,7")
    found = sides(params, {"a": MuonDimensionNumbers(1, 0), "b": None})
    assert found == table("a/x:1,3,2 a/y:1,5,4 b/z")
    assert sides(params, SPEC_2D)["b/z"] == (1, 6, 7)


def test_a_plain_tree_serves_an_nnx_state():
    params = nnx.state(nnx.Linear(3, 4, rngs=nnx.Rngs(0)), nnx.Param)
    same_structure = jax.tree.map(lambda x: SPEC_2D if x.ndim == 2 else None, params)
    for dims in ({"kernel": SPEC_2D, "bias": None}, same_structure):
        assert sides(params, dims) == {"bias": None, "kernel": (1, 3, 4)}


def test_masked_nodes_need_no_leaf_and_leave_their_specs_used():
    params = {"a": jnp.ones((2, 3)), "b": optax.MaskedNode(), "c": None}
    assert sides(params, {"a": SPEC_2D, "b": SPEC_2D, "c": None}) == {"a": (1, 2, 3)}


@pytest.mark.parametrize(
    ("reduction", "output", "batch"),
    [((2, 0), (3, 1), ()), ((2,), (0, 1), (3,)), ((3,), (1,), (0, 2))],
)
def test_matrices_have_their_axes_in_order_and_back_is_the_identity(reduction, output, batch):
    x = np.arange(2 * 3 * 4 * 5.0).reshape(2, 3, 4, 5)
    view = view_of(MuonDimensionNumbers(reduction, output), "x", x)
    (matrices,) = view.to_matrices(x)
    expected = x.transpose(*batch, *reduction, *output).reshape(view.sides[0])
    np.testing.assert_array_equal(matrices, expected)
    assert view.batch == batch
    np.testing.assert_array_equal(view.from_matrices([matrices], x.shape), x)


@pytest.mark.parametrize("shape", [(6, 24), (0, 24), (2, 0)])
def test_every_axis_of_an_array_is_a_product_of_axes_of_its_view(shape):
    view = view_of("(heads=2 in) out", "w", jnp.ones(shape))
    groups = view.factors(shape)
    if 0 not in shape:  # what an empty axis is the product of says nothing
        assert [math.prod(view.shape[i] for i in axes) for axes in groups] == [*shape]
        assert groups == [(0, 1), (2,)]
