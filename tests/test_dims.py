"""Who is a matrix: the rules on real Flax models, specs in every form, views and errors."""

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

from muon_optax import EQUINOX, FLAX, LAYOUTS, MuonDimensionNumbers, Rule
from muon_optax._leaves import LeafError
from muon_optax.dims import assign, resolve, view_of

SPEC_2D = MuonDimensionNumbers(0, 1)
TOKENS = jnp.zeros((1, 8), jnp.int32)
IMAGES = jnp.zeros((1, 8, 8, 3))


def sides(params, dims=FLAX):
    """Path → (batch, fan_in, fan_out), or None for the fallback."""
    return {path: view and view.sides[0] for path, view, _ in assign(dims, params)}


def alone(path, shape):
    """A tree of one leaf."""
    tree = jax.ShapeDtypeStruct(shape, jnp.float32)
    for node in reversed(path.split("/")):
        tree = {node: tree}
    return tree


def attention(batch=1):
    """The intended views of one attention layer with 4 heads of 8, width 32."""
    return {f"{name}/kernel": (batch, 32, 32) for name in ("query", "key", "value", "out")} | {
        f"{name}/bias": None for name in ("query", "key", "value", "out")
    }


def under(prefix, table):
    return {f"{prefix}/{name}": value for name, value in table.items()}


def linen_block(batch=1):
    return {
        **under("MultiHeadDotProductAttention_0", attention(batch)),
        "Dense_0/kernel": (batch, 32, 64),
        "Dense_0/bias": None,
        "Dense_1/kernel": (batch, 64, 32),
        "Dense_1/bias": None,
        **{f"LayerNorm_{i}/{leaf}": None for i in (0, 1) for leaf in ("scale", "bias")},
    }


LINEN_SHELL = {
    "Embed_0/embedding": None,
    "pos_embedding": None,
    "LayerNorm_0/scale": None,
    "LayerNorm_0/bias": None,
    "lm_head/kernel": None,
    "lm_head/bias": None,
}

NNX_TRANSFORMER = {
    **under("attention", attention()),
    "tokens/embedding": None,
    "norm/scale": None,
    "up/kernel": (1, 32, 64),
    "up/bias": None,
    "down/kernel": (1, 64, 32),
    "down/bias": None,
    "experts_up": (6, 32, 16),
    "router/kernel": None,
    "router/bias": None,
    "lm_head/kernel": None,
    "lm_head/bias": None,
}


def test_every_leaf_of_a_linen_transformer_has_its_role():
    params = linen_shapes(LinenTransformer(), TOKENS)
    blocks = [under(f"LinenBlock_{i}", linen_block()) for i in (0, 1)]
    assert sides(params) == LINEN_SHELL | blocks[0] | blocks[1]


def test_every_leaf_of_a_scanned_linen_transformer_has_its_role():
    params = linen_shapes(LinenTransformer(scanned=True), TOKENS)
    assert sides(params) == LINEN_SHELL | under("blocks", linen_block(batch=3))


def test_every_leaf_of_a_linen_conv_net_has_its_role():
    params = linen_shapes(LinenConvNet(), IMAGES)
    norms = [f"{n}_0/{leaf}" for n in ("BatchNorm", "GroupNorm") for leaf in ("scale", "bias")]
    assert sides(params) == {
        "conv_init/kernel": (1, 3 * 3 * 3, 16),
        "conv_init/bias": None,
        "Conv_0/kernel": (1, 3 * 3 * 16, 32),
        "Conv_0/bias": None,
        "ConvTranspose_0/kernel": (1, 2 * 2 * 32, 16),
        "ConvTranspose_0/bias": None,
        "Dense_0/kernel": (1, 16, 24),
        "Dense_0/bias": None,
        "head/kernel": None,
        "head/bias": None,
        **dict.fromkeys(norms),
    }


def test_every_leaf_of_an_nnx_transformer_has_its_role():
    params = nnx.state(nnx.eval_shape(lambda: NnxTransformer(nnx.Rngs(0))), nnx.Param)
    assert sides(params) == NNX_TRANSFORMER


def test_a_leading_stack_axis_is_a_batch_axis_under_nnx():
    params = nnx.state(nnx.eval_shape(lambda: NnxStack(nnx.Rngs(0))), nnx.Param)
    stacked = {n: v and (3 * v[0], *v[1:]) for n, v in NNX_TRANSFORMER.items()}
    assert sides(params) == under("blocks", stacked)


# Path → shape, and the view that is meant: (batch, fan_in, fan_out), or None.
SINGLE = {
    "depthwise_conv/kernel": ((3, 3, 1, 8), None),
    "depthwise/conv/kernel": ((7, 7, 1, 64), None),
    "conv_dw/kernel": ((3, 3, 1, 8), None),
    "conv1d/kernel": ((5, 4, 8), (1, 20, 8)),
    "conv3d/kernel": ((3, 3, 3, 4, 8), (1, 108, 8)),
    "ConvLocal_0/kernel": ((6, 6, 36, 8), (36, 36, 8)),
    "patch_embedding/kernel": ((4, 4, 3, 32), (1, 48, 32)),
    "MoEBlock/wi": ((8, 16, 32), (8, 16, 32)),
    "layers/experts/wo": ((3, 8, 16, 32), (24, 16, 32)),
    "query/kernel": ((32, 16), (1, 32, 16)),
    "layers/query/kernel": ((3, 32, 4, 8), (3, 32, 32)),
    "attn/q_proj/kernel": ((32, 4, 8), (1, 32, 32)),
    "attn/o_proj/kernel": ((4, 8, 32), (1, 32, 32)),
    "moe_layers/self_attention/query/kernel": ((12, 32, 4, 8), (12, 32, 32)),
    "moe_layers/self_attention/out/kernel": ((12, 4, 8, 32), (12, 32, 32)),
    "moe_layers/wi_bias": ((12, 8, 32), None),
    "experts/gate_up_proj_bias": ((3, 8, 32), None),
    "experts/gate_proj/kernel": ((8, 16, 32), (8, 16, 32)),
    "moe/gate/kernel": ((12, 32, 8), None),
    "MoeBlock_0/gate/gate_logits": ((12, 32, 8), None),
    "input_layernorm/weight": ((12, 32), None),
    "layers/q_norm/weight": ((12, 8), None),
    "ln_1/weight": ((32,), None),
    "FiLM_0/gamma": ((12, 32), None),
    "dispatch/kernel": ((3, 32, 32), (3, 32, 32)),
    "system/kernel": ((3, 32, 32), (3, 32, 32)),
    "multi_head/kernel": ((32, 32), (1, 32, 32)),
    "overhead/kernel": ((32, 32), (1, 32, 32)),
    "pre_logits/kernel": ((32, 64), (1, 32, 64)),
    "mlp_head/kernel": ((32, 10), None),
    "mlp_head/layers_0/kernel": ((32, 10), None),
    "unembed/kernel": ((32, 10), None),
    "output_layer/kernel": ((32, 10), None),
    "pos": ((64, 32), None),
    "position_encoding": ((1, 64, 32), None),
    "head_0/kernel": ((32, 10), None),
    "logits_dense/kernel": ((32, 10), None),
    "embedder/input_embedding": ((64, 32), None),
    "posembed_input/pos_embedding": ((1, 64, 32), None),
    "mlp/member/kernel": ((32, 64), (1, 32, 64)),
    "OptimizedLSTMCell_0/hi/kernel": ((16, 16), (1, 16, 16)),
    "cls_token": ((1, 1, 32), None),
    "wpe": ((64, 32), None),
    "w1": ((16, 8), (1, 16, 8)),
    "layers/LayerNorm_0/scale": ((12, 32), None),
    "temperature": ((), None),
    "experts_0/gate/kernel": ((768, 2048), (1, 768, 2048)),
    "experts/gate": ((8, 768, 2048), (8, 768, 2048)),
    "Head_0/key/kernel": ((32, 8), (1, 32, 8)),
    "attention_head_1/q/kernel": ((32, 8), (1, 32, 8)),
    "token_embedding/weight": ((50, 8), None),
    "wte/weight": ((50, 8), None),
    "ensemble/weight": ((6, 8), (1, 6, 8)),
    "classifier/dense/kernel": ((64, 64), None),
    "classifier/out_proj/kernel": ((64, 10), None),
    "lm_head/vocab/kernel": ((64, 256), None),
    "policy_head/out/kernel": ((64, 6), None),
    "ln_attn/weight": ((12, 64), None),
    "blocks/norm_ff/weight": ((12, 64), None),
    "layernorm_before/weight": ((12, 64), None),
    "DepthwiseSeparableConv_0/Conv_1/kernel": ((1, 1, 32, 64), (1, 32, 64)),
    "norm_mod/weight": ((12, 8), (1, 12, 8)),
    "ln_proj/weight": ((12, 8), (1, 12, 8)),
    "MoeBlock_0/wi_0": ((8, 4, 6), (8, 4, 6)),
}


def test_single_leaves_have_their_role():
    found = {path: sides(alone(path, shape))[path] for path, (shape, _) in SINGLE.items()}
    assert found == {path: expected for path, (_, expected) in SINGLE.items()}


def test_a_stack_agrees_with_its_neighbours():
    """Bias-free stacks pass by their norms and kernels; a masked tree, without them, too."""
    shapes = {
        "attn": {name: {"kernel": (12, 32, 32)} for name in ("q_proj", "o_proj")},
        "norm": {"scale": (12, 32)},
        "mlp": {"up": {"kernel": (12, 32, 64)}},
    }
    is_shape = lambda x: isinstance(x, tuple)
    params = jax.tree.map(
        lambda s: jax.ShapeDtypeStruct(s, jnp.float32), shapes, is_leaf=is_shape
    )
    assert sides({"layers": params, "embedding": jnp.ones((50, 32))}) == {
        "layers/attn/q_proj/kernel": (12, 32, 32),
        "layers/attn/o_proj/kernel": (12, 32, 32),
        "layers/norm/scale": None,
        "layers/mlp/up/kernel": (12, 32, 64),
        "embedding": None,
    }
    lonely = {"a": {"kernel": jnp.ones((12, 3, 4)), "scale": optax.MaskedNode()}}
    assert sides(lonely | {"b": {"kernel": jnp.ones((5, 6))}})["a/kernel"] == (12, 3, 4)


@pytest.mark.parametrize(
    ("names", "kv"),
    [("query key value out", 8), ("q k v o", 4), ("q_proj k_proj v_proj o_proj", 2)],
)
def test_heads_and_stacks_of_plain_layers_are_told_apart_by_query_and_output(names, kv):
    """A stack of 12 layers 32 → 64 reads like one kernel of 32 heads; the output does not."""
    q, k, v, o = names.split()
    heads = {q: (32, 8, 4), k: (32, kv, 4), v: (32, kv, 4), o: (8, 4, 32)}
    plain = {q: (12, 32, 64), k: (12, 32, 8 * kv), v: (12, 32, 8 * kv), o: (12, 64, 32)}
    for shapes, expected in (
        (heads, [(1, 32, 32), (1, 32, 4 * kv), (1, 32, 4 * kv), (1, 32, 32)]),
        (plain, [plain[name] for name in (q, k, v, o)]),
    ):
        params = {"a": {name: {"kernel": jnp.ones(shape)} for name, shape in shapes.items()}}
        found = sides(params)
        assert [found[f"a/{name}/kernel"] for name in (q, k, v, o)] == expected


def test_an_output_among_layers_of_fused_attention_is_a_stack():
    """Nothing but the axis in front of all tells it from an output of heads."""
    attn = {"c_attn": {"kernel": (6, 64, 96)}, "o": {"kernel": (6, 64, 64)}}
    rules = (Rule("fused", "c_attn/kernel$", "layers in out[q=64 k=16 v=16]"), *FLAX)
    for beside in ({}, {"norm": {"scale": (6, 64)}}):
        for tree in ({"attn": attn | beside}, {"attn": {"o": attn["o"]}, "mlp": attn | beside}):
            params = jax.tree.map(jnp.ones, tree, is_leaf=lambda x: isinstance(x, tuple))
            assert sides(params, rules)["attn/o/kernel"] == (6, 64, 64)
    heads = {"qkv": {"kernel": jnp.ones((64, 12, 8))}, "o": {"kernel": jnp.ones((4, 16, 64))}}
    rules = (Rule("fused", "qkv/kernel$", "in out out"), *FLAX)
    assert sides(heads, rules)["o/kernel"] == (1, 64, 64)


@pytest.mark.parametrize(
    ("rules", "shape", "expected", "beside"),
    [
        (FLAX, (12, 3, 3, 4, 8), (12, 36, 8), "bias"),
        (FLAX, (12, 3, 4, 8), (12, 12, 8), "norm"),
        (EQUINOX, (12, 8, 4, 3), (12, 12, 8), "bias"),
        (EQUINOX, (12, 8, 4, 3, 3), (12, 36, 8), "norm"),
    ],
    ids=str,
)
def test_scanned_convolutions_are_a_stack(rules, shape, expected, beside):
    kind = "kernel" if rules is FLAX else "weight"
    gain = {"conv": {"bias": jnp.ones((12, 8))}, "norm": {}}
    if beside == "norm":
        gain = {"conv": {}, "norm": {"scale": jnp.ones((12, 8))}}
    params = {"conv": {kind: jnp.ones(shape)} | gain["conv"], "norm": gain["norm"]}
    assert sides({"blocks": params}, rules)[f"blocks/conv/{kind}"] == expected


@pytest.mark.parametrize(
    ("names", "leading"),
    [
        (("query", "key", "value", "proj"), 12),
        (("in_proj", "out_proj"), 24),
        (("in", "out"), 6),
    ],
    ids=str,
)
def test_a_stack_of_plain_layers_with_names_of_attention_is_a_stack(names, leading):
    params = {name: {"kernel": jnp.ones((leading, 32, 32))} for name in names}
    params = {"block": params, "norm": {"scale": jnp.ones((leading, 32))}}
    found = sides(params)
    assert {found[f"block/{name}/kernel"] for name in names} == {(leading, 32, 32)}


@pytest.mark.parametrize(
    "beside",
    [
        {},
        {"out": {"kernel": (64, 64)}},
        {"proj": {"kernel": (64, 64)}},
        {"ln": {"scale": (64,)}},
    ],
    ids=str,
)
def test_inputs_of_attention_that_begin_with_the_width_are_no_stack(beside):
    heads = {"query": (64, 4, 16), "key": (64, 2, 16), "value": (64, 2, 16)}
    tree = {"attn": {name: {"kernel": shape} for name, shape in heads.items()} | beside}
    found = sides(jax.tree.map(jnp.ones, tree, is_leaf=lambda x: isinstance(x, tuple)))
    assert [found[f"attn/{name}/kernel"] for name in heads] == [
        (1, 64, 64),
        (1, 64, 32),
        (1, 64, 32),
    ]


def test_a_norm_over_channels_and_pixels_is_no_stacks():
    params = {
        "conv1": {"weight": jnp.ones((16, 8, 3, 3))},
        "norm": {"weight": jnp.ones((16, 8, 8)), "bias": jnp.ones((16, 8, 8))},
    }
    assert sides(params, EQUINOX)["conv1/weight"] == (1, 72, 16)


def test_layers_along_the_second_axis_are_as_many_beside():
    params = {
        "layers": {"mlp": {"kernel": jnp.ones((4, 64, 64))}},
        "up": {"kernel": jnp.ones((64, 9))},
    }
    for rules in (FLAX, LAYOUTS["maxtext"]):
        with pytest.raises(ValueError, match=r"would (be a stack of 4|have 4 layers) too"):
            sides(params, rules)


def test_advice_builds_on_the_rules_that_were_given():
    own = Rule("u", "u", SPEC_2D)
    for rules, basis in {
        (own,): "rules",
        (own, *FLAX): "rules",
        FLAX: "FLAX",
        LAYOUTS["hf_gpt2"]: r"LAYOUTS\['hf_gpt2'\]",
    }.items():
        with pytest.raises(ValueError, match=rf"dims=\(Rule\(.*, \*{basis}\)"):
            sides({"zzz": jnp.ones((2, 3, 4))}, rules)


def test_an_output_of_flattened_heads_is_no_contradiction():
    params = {"query": {"kernel": jnp.ones((32, 4, 8))}, "out": {"kernel": jnp.ones((32, 16))}}
    assert sides(params) == {"query/kernel": (1, 32, 32), "out/kernel": (1, 32, 16)}
    unknown = {"wx": {"kernel": jnp.ones((32, 4, 8))}, "wy": {"kernel": jnp.ones((32, 16))}}
    with pytest.raises(
        ValueError, match=r"'wx/kernel'.*'stack of matrices' would, but.*'wy/kernel'"
    ):
        sides(unknown)


@pytest.mark.parametrize(
    ("path", "shape"),
    [
        ("MoeBlock_0/DenseGeneral_0/kernel", (768, 12, 64)),
        ("moe_layers/self_attention/qkv_proj/kernel", (64, 12, 3, 4, 8)),
        ("moe_layers/mlp/wi/kernel", (64, 12, 2, 32)),
    ],
)
def test_what_only_sounds_like_experts_is_an_error(path, shape):
    with pytest.raises(ValueError, match=r"no rule in `dims` fits"):
        sides(alone(path, shape))


def test_equinox_keeps_patches_and_members_apart_from_embeddings():
    shapes = {"patch_embed": (768, 3, 16, 16), "member": (6, 8), "embedding": (50, 8)}
    found = sides(
        {name: {"weight": jnp.ones(shape)} for name, shape in shapes.items()}, EQUINOX
    )
    assert found == {
        "patch_embed/weight": (1, 768, 768),
        "member/weight": (1, 8, 6),
        "embedding/weight": None,
    }


@pytest.mark.slow
def test_six_thousand_layers_take_their_time_once():
    """Linear in the leaves: each is checked against its own module alone."""
    layer = {"conv": {"kernel": jax.ShapeDtypeStruct((3, 3, 4, 8), jnp.float32)}}
    layer["out"] = {"kernel": jax.ShapeDtypeStruct((4, 8, 32), jnp.float32)}
    params = {f"layer_{i}": layer for i in range(3000)}
    start = time.process_time()  # not the wall's: others may have the cores
    assert len(sides(params)) == 6000
    assert time.process_time() - start < 4


def test_a_lone_rule_serves():
    assert sides({"u": jnp.ones((2, 3))}, Rule("u", "u", SPEC_2D)) == {"u": (1, 2, 3)}


def test_a_bare_array_is_a_matrix():
    for dims in (FLAX, None, "in out", SPEC_2D):
        (view,) = resolve(dims, jnp.ones((3, 4)))
        assert (view.reduction, view.output, view.sides) == ((0,), (1,), ((1, 3, 4),))


def test_a_rule_in_front_wins():
    rules = (Rule("adapter", r"lora_a$", MuonDimensionNumbers(0, 1)), *FLAX)
    assert sides({"lora_a": jnp.ones((8, 2))}, rules) == {"lora_a": (1, 8, 2)}


PARAMS = {
    "layers": [
        {"w": jnp.ones((2, 3, 4)), "b": jnp.ones(4)},
        {"w": jnp.ones((2, 3, 4)), "b": jnp.ones(4)},
    ],
    "head": jnp.ones((4, 5)),
}
SPEC = MuonDimensionNumbers((1,), 2)
LAYER = {"w": SPEC, "b": None}
EXPECTED = {
    "layers/0/w": (2, 3, 4),
    "layers/0/b": None,
    "layers/1/w": (2, 3, 4),
    "layers/1/b": None,
    "head": (1, 4, 5),
}


@pytest.mark.parametrize(
    "dims",
    [
        {"layers": [LAYER, LAYER], "head": MuonDimensionNumbers(-2, -1)},
        flax.core.freeze(
            {"layers": {"0": LAYER, "1": LAYER}, "head": MuonDimensionNumbers(0, 1)}
        ),
        lambda params: {"layers": [LAYER, LAYER], "head": MuonDimensionNumbers(0, 1)},
        lambda params: (
            Rule("w", r"w$", SPEC),
            Rule("head", "head", MuonDimensionNumbers(0, 1)),
            Rule("rest", "", None),
        ),
    ],
    ids=["tree", "frozen", "callable", "callable rules"],
)
def test_specs_come_as_a_tree_a_function_or_rules(dims):
    assert sides(PARAMS, dims) == EXPECTED


def test_a_prefix_serves_all_below_it():
    params = {
        "a": {"x": jnp.ones((2, 3)), "y": jnp.ones((4, 5))},
        "b": {"z": jnp.ones((6, 7))},
    }
    assert sides(params, {"a": MuonDimensionNumbers(1, 0), "b": None}) == {
        "a/x": (1, 3, 2),
        "a/y": (1, 5, 4),
        "b/z": None,
    }
    assert sides(params, MuonDimensionNumbers(0, 1))["b/z"] == (1, 6, 7)


def test_a_plain_tree_serves_an_nnx_state():
    params = nnx.state(nnx.Linear(3, 4, rngs=nnx.Rngs(0)), nnx.Param)
    dims = {"kernel": MuonDimensionNumbers(0, 1), "bias": None}
    assert sides(params, dims) == {"bias": None, "kernel": (1, 3, 4)}
    same_structure = jax.tree.map(
        lambda x: MuonDimensionNumbers(0, 1) if x.ndim == 2 else None, params
    )
    assert sides(params, same_structure) == {"bias": None, "kernel": (1, 3, 4)}


def test_masked_nodes_need_no_leaf_and_leave_their_specs_used():
    params = {"a": jnp.ones((2, 3)), "b": optax.MaskedNode(), "c": None}
    dims = {"a": MuonDimensionNumbers(0, 1), "b": MuonDimensionNumbers(0, 1), "c": None}
    assert sides(params, dims) == {"a": (1, 2, 3)}


@pytest.mark.parametrize(
    ("reduction", "output", "batch"),
    [((2, 0), (3, 1), ()), ((2,), (0, 1), (3,)), ((3,), (1,), (0, 2))],
)
def test_matrices_and_back_is_the_identity(reduction, output, batch):
    x = np.arange(2 * 3 * 4 * 5.0).reshape(2, 3, 4, 5)
    view = view_of(MuonDimensionNumbers(reduction, output), "x", x)
    (matrices,) = view.to_matrices(x)
    assert view.batch == batch and (matrices.shape,) == view.sides
    np.testing.assert_array_equal(view.from_matrices([matrices], x.shape), x)


def test_rows_are_the_reduction_axes_in_their_order():
    x = jnp.arange(24.0).reshape(2, 3, 4)
    view = view_of(MuonDimensionNumbers((2, 0), (1,)), "x", x)
    np.testing.assert_array_equal(view.to_matrices(x)[0][0], x.transpose(2, 0, 1).reshape(8, 3))


MATRIX = {"a": {"w": jnp.ones((2, 3))}}


@pytest.mark.parametrize(
    ("params", "dims", "message"),
    [
        (
            {"u": jnp.ones((2, 3))},
            FLAX,
            r"leaf 'u' \(shape \(2, 3\), float32\): no rule in(?s:.*)r'\(\^\|/\)u\$', '\? \?'",
        ),
        (
            {"a": {"kernel": jnp.ones((2, 3, 4, 5))}},
            FLAX,
            r"'a/kernel'.*no rule in `dims` fits",
        ),
        (MATRIX, {"a": {"w": (0, 1)}}, r"dims has 0 at 'a/w/0'; use a string"),
        (
            {"layers": {"wi": {"kernel": jnp.ones((8, 3, 16))}, "n": jnp.ones((4, 3))}},
            EQUINOX,
            r"In all, 2 leaves have no rule.\nPut these rules(?s:.*)\*EQUINOX,\n",
        ),
        (
            {"layers": {"wi_0": {"kernel": jnp.ones((8, 3, 16))}, "scale": jnp.ones((4, 3))}},
            (Rule("mine", "z", None), *FLAX),
            r"\*rules\)(?s:.*)a layout that has .* leaf: dims=LAYOUTS\['maxtext'\]",
        ),
        (MATRIX, "maxtext", r"dims='maxtext'; use dims=LAYOUTS\['maxtext'\]"),
        (MATRIX, {"a": {"w": "in"}}, r"the spec of leaf 'a/w' is wrong"),
        (MATRIX, (Rule("mine", "z", None), FLAX), r"dims has Rule.* at '0'; .*\*FLAX"),
        ({"x_einsum": {"w": jnp.ones((8, 32, 16))}}, FLAX, "'x_einsum/w'.*no rule"),
        (
            {"linear": {"weight": jnp.ones((8, 32)), "bias": jnp.ones(8)}},
            FLAX,
            r"'linear/weight'.*'matrix' would, but then its bias .*\(32,\), not \(8,\)",
        ),
        ({"wq": {"kernel": jnp.ones((32, 4, 8, 2))}}, FLAX, "'wq/kernel'.*no rule"),
        (
            {"wq": {"kernel": jnp.ones((32, 4, 8))}, "wo": {"kernel": jnp.ones((4, 8, 32))}},
            FLAX,
            "'wo/kernel'.*'stack of matrices' would, but then 'wq/kernel' next .* of 4 too",
        ),
        (
            {"Conv_0": {"kernel": jnp.ones((5, 3, 3, 4, 8)), "bias": jnp.ones((5, 4))}},
            FLAX,
            r"'Conv_0/kernel'.*bias would have shape \(5, 8\), not \(5, 4\)",
        ),
        (
            {"DenseGeneral_0": {"kernel": jnp.ones((2, 3, 4))}},
            FLAX,
            "'DenseGeneral_0/kernel'.*no rule",
        ),
        (
            {"mix": {"kernel": jnp.ones((8, 2, 4)), "bias": jnp.ones((2, 4))}},
            FLAX,
            r"'mix/kernel'.*'stack of matrices'.*shape \(8, 4\), not \(2, 4\)",
        ),
        (
            MATRIX,
            {"a": {"w": MuonDimensionNumbers(0, 2)}},
            r"leaf 'a/w' \(shape \(2, 3\).*axes that it does not have",
        ),
        (MATRIX, {"a": {"w": MuonDimensionNumbers(0, 0)}}, "'a/w'.*none twice"),
        (MATRIX, {"a": {"w": MuonDimensionNumbers(-2, 0)}}, "'a/w'.*none twice"),
        (MATRIX, {"a": {"w": MuonDimensionNumbers((), (0, 1))}}, "'a/w'.*at least one"),
        (MATRIX, {"a": {"w": 2.0}}, "dims has 2.0 at 'a/w'; use a string such as 'in out'"),
        (MATRIX, {"a": {"w": "matrix"}}, "  matrix\n        \\^ no axis is named 'in'"),
        (MATRIX, {"a": {"w": "in out out"}}, "'a/w'.*'in out out' is for 3 axes"),
        (
            {"b": jnp.ones(3)},
            {"b": MuonDimensionNumbers(0, 0)},
            "'b'.*use None if it is not a matrix",
        ),
        (MATRIX | {"z": jnp.ones((2, 2))}, {"a": None}, "leaf 'z'.*`dims` has no spec for it"),
        (
            MATRIX,
            {"a": {"w": None, "v": None}},
            r"dims has None at 'a/v', where the tree has no parameter.*'a/w'",
        ),
        (
            MATRIX,
            {"a": {"w": None}, "c": MuonDimensionNumbers(0, 1)},
            "at 'c', where the tree has no",
        ),
        (
            {"w": jnp.ones(3)},
            None,
            r"leaf 'w' \(shape \(3,\).*with dims=None each leaf needs two axes",
        ),
        ({"w": jnp.ones((2, 3, 4))}, None, "with dims=None each leaf needs two axes"),
        ({"a/w": jnp.ones((2, 3))} | MATRIX, FLAX, "two leaves share a path among .*'a/w'"),
        ({"w": jnp.ones((2, 3), int)}, FLAX, r"leaf 'w' \(shape \(2, 3\), int32\): only"),
        ({"w": 1.0}, FLAX, r"leaf 'w' \(float 1.0\): not an array"),
        ({"key": jax.random.key(0)}, FLAX, "leaf 'key'.*only real or complex floats"),
    ],
)
def test_a_misfit_is_an_error_that_names_the_leaf(params, dims, message):
    with pytest.raises(ValueError, match=message):
        resolve(dims, params)


@pytest.mark.parametrize(
    ("spec", "pattern", "message"),
    [
        (("in", "out"), "w", r"rule 'mine' has spec=\('in', 'out'\); use a string such as"),
        (3, "w", "rule 'mine' has spec=3"),
        (None, "w(", r"rule 'mine' has pattern='w\(': missing \)"),
    ],
)
def test_a_wrong_rule_is_told_when_it_is_made(spec, pattern, message):
    with pytest.raises(ValueError, match=message):
        Rule("mine", pattern, spec)


@pytest.mark.parametrize("shape", [(6, 24), (0, 24), (2, 0)])
def test_every_axis_of_an_array_is_a_product_of_axes_of_its_view(shape):
    view = view_of("(heads=2 in) out", "w", jnp.ones(shape))
    groups = view.factors(shape)
    if 0 not in shape:  # what an empty axis is the product of says nothing
        assert [math.prod(view.shape[i] for i in axes) for axes in groups] == [*shape]
        assert groups == [(0, 1), (2,)]


@pytest.mark.parametrize(
    "spec", [MuonDimensionNumbers((), (0, 1)), MuonDimensionNumbers((0, 1), ())], ids=str
)
def test_each_side_of_a_matrix_has_an_axis(spec):
    with pytest.raises(
        LeafError, match="must name at least one reduction axis and one output axis"
    ):
        view_of(spec, "w", jnp.ones((2, 3)))
