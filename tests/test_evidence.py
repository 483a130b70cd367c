"""What a leaf is by the other leaves, where its name says nothing: right, or marked."""

import time

import jax.numpy as jnp
import pytest
from trees import leaves

from muon_optax import EQUINOX, FLAX, LAYOUTS, Rule, plan
from muon_optax.dims import assign

LETTERS = str.maketrans("01", "xy")
# Layout, the leaves of a tree, and which of them are not matrices (-), or marked (?).
NOT_MATRICES = {
    "a table of PyTorch": "pytorch vocab/weight:5000,64? up/weight:256,64 down/weight:64,256",
    "a head as long as the table": """flax Embed_0/embedding:5000,64- up/kernel:64,256
        down/kernel:256,64 project/kernel:64,5000-""",
    "the last of numbered layers": """equinox layers/0/weight:32,4 layers/0/bias:32-
        layers/1/weight:32,32 layers/1/bias:32- layers/2/weight:3,32- layers/2/bias:3-""",
    "actor and critic": """flax Dense_0/kernel:17,64 Dense_1/kernel:64,6- Dense_2/kernel:17,64
        Dense_3/kernel:64,1- log_std:6-""",
    "an output of another name": """flax enc/fc1/kernel:16,64 enc/fc2/kernel:64,64
        scores/kernel:64,7?""",
    "an image as of the inputs": """flax enc/Conv_0/kernel:3,3,3,32 enc/Conv_1/kernel:3,3,32,64
        dec/Conv_0/kernel:3,3,64,32 dec/Conv_1/kernel:3,3,32,3?""",
    "a router": """pytorch mlp/gate/weight:8,64- mlp/experts/0/up/weight:128,64
        mlp/experts/0/down/weight:64,128""",
    "a relative table": """pytorch attn/rel_pos_table/weight:32,8- attn/q/weight:64,64
        attn/o/weight:64,64""",
    "depthwise convolutions": """flax a/spatial/kernel:3,3,1,64- a/mix/kernel:1,1,64,64
        b/spatial/kernel:3,3,1,64- b/mix/kernel:1,1,64,64""",
    "a stacked norm": """flax layers/norm_1/kernel:12,64- layers/up/kernel:12,64,256
        layers/down/kernel:12,256,64""",
    "the few channels of an image": """flax decoder/conv_in/kernel:3,3,4,64
        decoder/conv_out/kernel:3,3,64,3- encoder/conv_in/kernel:3,3,3,64""",
    "few channels after a transposed convolution": """pytorch a/conv/weight:64,3,3,3
        up/weight:64,32,2,2 up/bias:32- b/conv/weight:64,32,3,3 c/conv/weight:2,64,1,1-""",
    "as wide as the inputs, under one name": """pytorch params/reads/weight:64,8
        params/mixes/weight:128,64 params/actor/weight:8,128-""",
    "outputs of twice the inputs": """flax Dense_0/kernel:20,64 Dense_1/kernel:64,64
        Dense_2/kernel:64,40?""",
    "as long as the table, and as a layer": """flax tok/embedding:256,64-
        l0/up/kernel:64,256 l0/down/kernel:256,64 l1/up/kernel:64,256 l1/down/kernel:256,64
        l2/up/kernel:64,256 l2/down/kernel:256,64 decoder/kernel:64,256?""",
    "a table transposed": """flax tok/embedding:100,32- a/up/kernel:32,64 a/down/kernel:64,32
        b/up/kernel:32,64 b/down/kernel:64,32 c/up/kernel:32,64 c/down/kernel:64,32
        decode/kernel:100,32?""",
    "a name that no rule knows": "flax mixture:8,64? up/kernel:64,256 down/kernel:256,64",
}
HIDDEN = {
    "layers of a policy's head": """flax up/kernel:32,64 down/kernel:64,32
        policy_head/Dense_0/kernel:32,48 policy_head/Dense_1/kernel:48,6-""",
    "the last convolution": """pytorch features/0/weight:32,3,3,3 head/conv_pw/weight:128,32,1,1
        head/bn/weight:128- head/classifier/weight:10,128-""",
    "before the output of a classifier": """pytorch fc/weight:64,64 classifier/out/weight:3,64-
        classifier/dense/weight:64,64 classifier/dense/bias:64-""",
    "layers of a value's head": """haiku torso/linear/w:8,64 value_head/linear/w:64,32
        value_head/linear_1/w:32,1-""",
    "under a classifier of Keras": """keras dense/kernel:8,64 classifier/hidden/kernel:64,32
        classifier/scores/kernel:32,3-""",
    "a convolution that is flattened": """flax Conv_0/kernel:3,3,3,32 Conv_1/kernel:3,3,32,64
        Dense_0/kernel:4096,256 Dense_1/kernel:256,10-""",
    "two towers, joined": """flax a/Dense_0/kernel:10,64 a/Dense_1/kernel:64,128
        b/Dense_0/kernel:20,256 c/Dense_0/kernel:384,64 c/Dense_1/kernel:64,2-""",
    "a gated layer of a head, by chance as long as a table": """flax action/embedding:128,32-
        torso/kernel:32,64 value_head/Dense_0/kernel:64,128? value_head/Dense_1/kernel:64,1-""",
    "as wide as a table is long": """flax embed/embedding:256,64- b0/fc1/kernel:64,256
        b0/fc2/kernel:256,64 b1/fc1/kernel:64,256 b1/fc2/kernel:256,64 n/scale:64-""",
    "an output of attention, by the query": """flax a/query/kernel:64,4,16
        a/attn_out_proj/kernel:4,16,64 up/kernel:64,256 down/kernel:256,64""",
    "arrays without a module": "flax h/wq:64,64 h/wo:64,64 h/w1:64,256 h/w2:256,64 wte:900,64-",
    "a gate next to what takes it": """maxtext decoder/layers/mlp/wi_0/kernel:64,4,256
        decoder/layers/mlp/wi_1/kernel:64,4,256 decoder/layers/mlp/wo/kernel:256,4,64""",
    "the mean of a latent": """flax Encoder_0/up/kernel:784,400 Encoder_0/mean/kernel:400,20
        Encoder_0/var/kernel:400,20 dec/hidden/kernel:20,400 dec/last/kernel:400,784-""",
    "paths that differ only in dots": "pytorch a.b.weight:8,4 a/b/weight:8,4",
    "an embedding with a bias": """pytorch x_embedder/weight:64,16 x_embedder/bias:64-
        up/weight:128,64 down/weight:64,128""",
}
SEVERAL = {
    "of attention and a gate": "flax in_proj_qkvz/kernel:64,256? out_proj/kernel:64,64",
    "as long as a table, of a cell": """equinox embed/weight:256,64- out/weight:256,64?
        cell/weight_ih:256,64? cell/weight_hh:256,64?""",
    "of a gated layer": "pytorch mlp/w12/weight:256,64? mlp/w3/weight:64,128",
    "of keys and values, a convolution": """flax to_kv/kernel:1,1,64,128? to_q/kernel:1,1,64,64
        to_out/kernel:1,1,64,64""",
    "of a recurrent cell": "equinox cell/weight_ih:96,16? cell/weight_hh:96,32? cell/bias:96-",
    "of unequal sizes": "pytorch kv_a_proj_with_mqa/weight:80,64? kv_b_proj/weight:128,64",
    "of experts": """pytorch mlp/experts/gate_up_proj:8,256,64? mlp/experts/down_proj:8,64,128
        embed_tokens/weight:900,64-""",
    "as many outputs as two layers": "flax wi/kernel:64,256? wo/kernel:128,64",
    "of a query with a gate": """flax query/kernel:64,4,32? key/kernel:64,4,16
        value/kernel:64,4,16 out/kernel:4,16,64""",
}
CASES = {f"{k}: {n}": t for k, c in (
    ("no matrix", NOT_MATRICES), ("hidden", HIDDEN), ("several matrices", SEVERAL)
) for n, t in c.items()}  # fmt: skip


@pytest.mark.parametrize("separator", "/.")
@pytest.mark.parametrize("case", CASES)
def test_a_leaf_is_read_by_the_others_or_marked(case, separator):
    layout, *words = CASES[case].replace("/", separator).split()
    params = leaves(" ".join(word.rstrip("-?") for word in words))
    marks = {word.split(":")[0]: word[-1].strip("0123456789") for word in words}
    found = assign(LAYOUTS[layout], params)
    assert marks == {f.path: "?" if f.doubt else "" if f.view else "-" for f in found}, found


def test_time_grows_with_the_leaves_not_with_their_square():
    layers = "m{1}/kernel:64,64 b{0}/Conv_0/kernel:3,3,1,64 b{0}/Conv_1/kernel:1,1,64,64"
    seconds = []
    for count in (200, 1600):
        words = (layers.format(i, f"{i:b}".translate(LETTERS)) for i in range(count))
        params = leaves(" ".join(words))
        start = time.process_time()
        assign(LAYOUTS["flax"], params)
        seconds.append(time.process_time() - start)
    assert seconds[1] < 24 * seconds[0], seconds


def test_the_norm_after_it_tells_a_transposed_convolution():
    params = leaves(
        "g.3.weight:512,256,4,4 g.4.weight:256 d.3.weight:512,256,4,4 d.4.weight:512"
    )
    found = {leaf.path: leaf.view for leaf in assign(LAYOUTS["pytorch"], params)}
    assert [found[f"{m}.3.weight"].sides[0][2] for m in "gd"] == [256, 512]


@pytest.mark.parametrize(
    "out", [{"exclude": "2"}, {"dims": (Rule("mine", "^2/", None), *EQUINOX)}]
)
def test_a_layer_left_to_the_fallback_still_takes_the_outputs_of_the_one_before(out):
    """Else the advice of `init`, to leave out the last layer, makes the one before the last."""
    shapes = ((32, 8), (32, 32), (8, 32))
    params = {str(i): {"weight": jnp.ones(shape)} for i, shape in enumerate(shapes)}
    table = plan(params, **({"dims": EQUINOX} | out))
    assert [leaf.optimizer for leaf in table.leaves] == ["Muon", "Muon", "fallback"]
    assert not table.doubts


def test_a_layer_that_its_layout_misreads_may_be_excluded():
    params = leaves("Dense_0/kernel:8,64 Dense_1/kernel:64,64 out/weight:3,64")
    found = [leaf.optimizer for leaf in plan(params, exclude="out").leaves]
    assert found == ["Muon", "Muon", "fallback"]


def test_a_table_with_a_role_of_its_own_does_not_hide_the_output_layer():
    params = leaves("vocab/kernel:5000,64 a/kernel:64,64 b/kernel:64,64 project/kernel:64,5000")
    found = plan(params, (Rule("token table", "^vocab/", None), *FLAX)).leaves
    assert [leaf.path for leaf in found if leaf.doubt] == ["project/kernel"]


def test_a_layer_may_be_excluded_because_the_layouts_rule_does_not_fit():
    params = leaves("h/attn/c_attn/kernel:896,768 h/mlp/c_fc/kernel:3072,768")
    with pytest.raises(ValueError, match=r"c_attn.*896"):
        plan(params, LAYOUTS["hugging_face"])
    table = plan(params, LAYOUTS["hugging_face"], exclude="c_attn")
    assert [leaf.optimizer for leaf in table.leaves] == ["fallback", "Muon"]


def test_a_table_that_the_user_names_tells_the_output_layer():
    params = leaves("lookup/kernel:5000,64 a/kernel:64,64 project/kernel:64,5000")
    rules = (Rule("embedding", "^lookup/kernel$", None), *FLAX)
    assert plan(params, rules).leaves[-1].role == "output layer"


def test_an_excluded_embedding_still_tells_the_output_layer():
    params = leaves("embed/embedding:100,16 Dense_0/kernel:16,16 Dense_1/kernel:16,100")
    assert [leaf.optimizer for leaf in plan(params, exclude="embed").leaves] == [
        "Muon",
        "fallback",
        "fallback",
    ]
