"""The plan: every leaf's treatment in a table, doubts named, equal to what `muon` does."""

import html
import re

import jax
import jax.numpy as jnp
import layouts
import numpy as np
import optax
import pytest
from flax import nnx
from test_doubts import follow
from trees import leaves as shapes_of

from muon_optax import (
    FLAX,
    METHODS,
    SVD,
    DualNorm,
    MuonDimensionNumbers,
    NewtonSchulz,
    Rule,
    compat,
    dims,
    muon,
    plan,
)
from muon_optax._leaves import path_name

PARAMS = {
    "Dense_0": {"kernel": jnp.ones((6, 8)), "bias": jnp.ones(8)},
    "qkv": {"kernel": jnp.ones((6, 16))},
    "experts": {"up": jnp.ones((3, 6, 24))},
    "head": {"kernel": jnp.ones((8, 10))},
}
RULES = (Rule("fused attention", "qkv/kernel$", "in out[q=8 k=4 v=4]"), *FLAX)
shape = layouts.struct


def by_path(made):
    return {leaf.path: leaf for leaf in made.leaves}


def test_a_leaf_has_role_view_scale_rate_optimizer_flops_and_reason():
    leaves = by_path(plan(PARAMS, RULES, learning_rate=0.1, adam_learning_rate=0.01))
    assert leaves.keys() == {path_name(path) for path, _ in jax.tree.leaves_with_path(PARAMS)}
    fused = leaves["qkv/kernel"]
    assert (fused.role, fused.optimizer, fused.size) == ("fused attention", "Muon", 96)
    assert fused.why == "rule 1, qkv/kernel$ → in out[q=8 k=4 v=4]"
    assert fused.matrices == ((1, 6, 8), (1, 6, 4), (1, 6, 4))
    root = (8 / 6) ** 0.5
    assert fused.scales == pytest.approx((root, 1, 1))
    assert fused.rates == pytest.approx((0.1 * root, 0.1, 0.1))
    polar = METHODS["jordan"]
    assert fused.flops == polar.plan(6, 8).flops + 2 * polar.plan(6, 4).flops
    experts = leaves["experts/up"]
    assert experts.matrices == ((3, 6, 24),) and experts.scales == (2.0,)
    assert experts.flops == 3 * polar.plan(6, 24).flops
    head = leaves["head/kernel"]
    assert (head.optimizer, head.role, head.matrices) == ("fallback", "output head", ())
    assert head.rates == (0.01,) and head.scales == () and head.flops == 0


def test_without_rates_and_with_another_method_and_scale():
    made = plan(PARAMS, RULES, method=SVD(), shape_scaling="adam_rms")
    leaves = by_path(made)
    assert leaves["experts/up"].scales == pytest.approx((0.2 * 24**0.5,))
    assert leaves["experts/up"].flops is None
    assert all(leaf.rates == () for leaf in made.leaves)
    columns = str(made).splitlines()[0]
    assert columns.endswith("scale") and "rate" not in columns  # none is empty
    assert str(made).endswith(" matrices.")  # without operations


def test_specs_are_given_as_the_reason():
    specs = {"a": "in out", "b": MuonDimensionNumbers(0, 1), "c": None}
    leaves = by_path(plan({name: jnp.ones((2, 3)) for name in specs}, specs))
    assert leaves["a"].why == "dims: a spec, 'in out'"
    assert "MuonDimensionNumbers(reduction_axis=0" in leaves["b"].why
    assert (leaves["c"].role, leaves["c"].why) == ("not a matrix", "dims: a spec, None")
    assert by_path(plan(jnp.ones((2, 3)), None))[""].why == "dims: every leaf is a matrix"


@pytest.mark.slow
def test_the_plan_is_what_muon_does():
    """A step of plain polar factors has RMS rate·√(rank/size), of AdamW the rate."""
    made = plan(PARAMS, RULES, learning_rate=0.1, adam_learning_rate=0.01)
    tx = muon(0.1, SVD(), nesterov=False, adam_learning_rate=0.01, dims=RULES)
    grads = jax.tree.map(lambda x: jax.random.normal(jax.random.key(x.size), x.shape), PARAMS)
    updates, _ = jax.jit(tx.update)(grads, tx.init(PARAMS), PARAMS)
    for leaf, update in zip(made.leaves, jax.tree.leaves(updates), strict=True):
        squares = [
            rate**2 * count * min(sides)
            for rate, (count, *sides) in zip(leaf.rates, leaf.matrices)
        ] or [leaf.rates[0] ** 2 * leaf.size]
        np.testing.assert_allclose(jnp.linalg.norm(update), sum(squares) ** 0.5, rtol=1e-3)


def test_a_plan_needs_shapes_only():
    shapes = jax.eval_shape(lambda: PARAMS)
    assert plan(shapes, RULES) == plan(PARAMS, RULES)
    assert plan(PARAMS, lambda params: RULES) == plan(PARAMS, RULES)


def test_layers_that_are_treated_alike_share_a_line():
    said = str(plan(layouts.params("hf_gpt2"), layouts.rules("hf_gpt2")))
    (fused,) = [line for line in said.splitlines() if "c_attn/kernel  " in line]
    cells = fused.split()
    assert cells[0] == "transformer/h/{0..11}/attn/c_attn/kernel" and cells[1] == "2304×768"
    assert "3 of 768 × 768" in fused
    assert said.endswith(
        "Muon trains 84,934,656 of 124,439,808 parameters: 72 matrices. "
        "Their polar factors take 1.2 TFLOP a step."
    )
    assert len(said.splitlines()) < 30


def test_numbers_in_a_path_stay_apart_where_their_leaves_differ():
    params = {f"layer_{i}": {"kernel": jnp.ones((4, 4 + i // 2))} for i in (0, 1, 3, 7)}
    lines = str(plan(params)).splitlines()[2:5]
    assert [line.split()[0] for line in lines] == [
        "layer_{0..1}/kernel",
        "layer_3/kernel",
        "layer_7/kernel",
    ]
    same = {f"layer_{i}": {"kernel": jnp.ones((4, 4))} for i in (0, 3, 7)}
    assert str(plan(same)).splitlines()[2].startswith("layer_{0,3,7}/kernel")


def test_ranges_stand_for_no_more_than_there_is():
    kernel = {"kernel": jnp.ones((4, 4))}
    params = {"a0": {"b1": kernel}, "a1": {"b0": kernel}}
    lines = str(plan(params)).splitlines()[2:4]
    assert [line.split()[0] for line in lines] == ["a0/b1/kernel", "a1/b0/kernel"]
    padded = str(plan({f"block_{i:02}": kernel for i in range(3)}))
    assert padded.splitlines()[2].startswith("block_{00..02}/kernel")


def test_one_dict_of_settings_serves_muon_and_its_plan():
    schedule = optax.linear_schedule(0.1, 0.0, 10)
    settings = compat.MODES["moonlight"] | {"learning_rate": schedule, "dims": RULES}
    muon(**settings)
    made = plan(PARAMS, **settings)
    assert by_path(made)["experts/up"].scales == pytest.approx((0.2 * 24**0.5,))
    assert all(leaf.rates == () for leaf in made.leaves)
    rest = plan(PARAMS, **settings | {"adam_learning_rate": 0.01})
    assert by_path(rest)["head/kernel"].rates == (0.01,)
    assert by_path(rest)["experts/up"].rates == ()


def test_the_fallback_has_muons_rate_where_it_has_none_of_its_own():
    assert by_path(plan(PARAMS, RULES, learning_rate=0.1))["head/kernel"].rates == (0.1,)
    rates = {"learning_rate": jnp.float32(0.5), "fallback": optax.sgd(1.0)}
    leaves = by_path(plan(PARAMS, RULES, **rates))
    assert leaves["head/kernel"].rates == () and leaves["experts/up"].rates == (1.0,)


def test_a_dual_norm_takes_the_operations_of_its_method():
    of_it, plain = (plan(PARAMS, RULES, method=m) for m in (DualNorm(), NewtonSchulz()))
    assert [leaf.flops for leaf in of_it.leaves] == [leaf.flops for leaf in plain.leaves]


@pytest.mark.parametrize(
    ("rule", "why"),
    [
        (Rule("typo", "qvk/kernel$", "in out[q k v]"), "no path matches 'qvk/kernel\\$'"),
        (
            Rule("ranks", "qkv/kernel$", "layers in out"),
            "'qkv/kernel' matches, but has a different",
        ),
    ],
)
def test_a_rule_that_decides_nothing_is_named_and_strictly_refused(rule, why):
    rules = (rule, *RULES)
    made = plan(PARAMS, rules, exclude="head")  # whose rule is not the user's
    (said,) = made.unused
    assert re.search(f"unused: rule 1, '{rule.role}': {why}", said) and said in str(made)
    with pytest.raises(ValueError, match=r"unused: rule 1(?s:.*)Correct .* or remove it\.$"):
        plan(PARAMS, rules, strict=True)
    assert plan(PARAMS, RULES, strict=True).unused == ()


def test_what_strict_says_is_one_round():
    params = shapes_of(
        "qkv/kernel:8,24 Dense_0/kernel:8,8 h_0/fc/weight:64,96 h_1/fc/weight:64,96 out:8,8"
    )
    mine = Rule("per head", "Dense_0/kernel", "in (heads=2 out)")
    with pytest.raises(ValueError, match="unused: rule 1, 'typo'") as refused:
        plan(params, (Rule("typo", "qvk", "in out"), mine, *FLAX), exclude="out", strict=True)
    advice = follow(str(refused.value))
    assert advice[-len(FLAX) - 1 :] == (mine, *FLAX)
    made = by_path(plan(params, advice, exclude="out", strict=True))
    assert made["qkv/kernel"].matrices == ((1, 8, 8),) * 3
    assert made["h_1/fc/weight"].matrices == ((1, 96, 64),)
    assert made["out"].why == "the argument exclude"


def test_optaxs_default_can_be_planned():
    leaves = by_path(plan(PARAMS, dims.RANK_TWO))
    assert {path for path, leaf in leaves.items() if leaf.matrices} == {
        "Dense_0/kernel",
        "qkv/kernel",
        "head/kernel",
    }


def test_a_notebook_gets_a_table_and_what_print_says():
    rule = Rule("a<b", "Dense_0/kernel", "in out")
    made = plan(PARAMS, (rule, Rule("typo", "qvk", None), *FLAX))
    shown = made._repr_html_()
    assert shown.count("<tr>") == 1 + len(made.leaves) and "<td>a&lt;b</td>" in shown
    remarks = html.unescape(re.search(r"<pre>(.*)</pre>$", shown, re.DOTALL)[1])
    assert made.unused and made.doubts and str(made).endswith("\n\n" + remarks)


DOUBTFUL = {
    "embedding": ({"codes": {"kernel": (4096, 64)}}, "read as 4096 × 64, and no other layer"),
    "output layer": (
        {"Dense_9": {"kernel": (64, 4096)}},
        "4096 inputs or outputs; is it a table",
    ),
    "depthwise": (
        {"Conv_0": {"kernel": (3, 3, 1, 64)}, "Conv_1": {"kernel": (1, 1, 8, 64)}},
        "depthwise, so not a matrix",
    ),
    "bias stack": ({"experts": {"up_shift": (3, 8, 16)}}, "sounds like a bias or a gain"),
    "fused": (
        {"attn": {"qkv": {"kernel": (64, 96)}}},
        "its name says that it consists of several matrices",
    ),
    "transposed": ({"fc": {"weight": (64, 96)}}, r"as .in, out. = 64 × 96; is it .out, in."),
    "stack": ({"query": {"kernel": (12, 768, 768)}}, "12 × 589824, and no other layer has"),
}


@pytest.mark.parametrize("case", DOUBTFUL)
def test_a_doubtful_leaf_is_named_and_strictly_refused(case):
    shapes, problem = DOUBTFUL[case]
    is_shape = lambda x: isinstance(x, tuple)
    params = jax.tree.map(shape, shapes, is_leaf=is_shape)
    params["fine"] = {"kernel": shape((8, 8))}
    (doubtful,) = (made := plan(params)).doubts
    assert re.search(problem, doubtful.doubt)
    named = f"# {doubtful.path} {doubtful.shape}: "
    assert named in str(made) and " (?)" in str(made)
    with pytest.raises(ValueError, match=re.escape(named)):
        plan(params, strict=True)
    spec = " ".join(["batch"] * (len(doubtful.shape) - 2) + ["in", "out"])
    for mine in (spec, None):  # what the user has said is not doubted
        rules = (Rule("mine", f"^{doubtful.path}$", mine), *FLAX)
        assert plan(params, rules, strict=True).doubts == ()


@pytest.mark.parametrize(
    "tree",
    [
        "l/weight:64,128 l/bias:128",  # the bias confirms the order
        "l/weight:64,64",  # its transpose is as good
        "lora_a/kernel:4096,8 up/kernel:20,1",  # adapters may be lopsided
        "query/kernel:1,4,8",  # one input of what is no convolution
    ],
)
def test_what_is_plain_is_not_doubted(tree):
    assert plan(shapes_of(tree), strict=True).doubts == ()


def test_a_model_of_nnx_counts_its_parameters_alone():
    """No statistics of BatchNorm, no counters of Dropout: as nnx.Optimizer trains it."""

    class Model(nnx.Module):
        def __init__(self, rngs):
            self.linear = nnx.Linear(8, 16, rngs=rngs)
            self.norm = nnx.BatchNorm(16, rngs=rngs)
            self.drop = nnx.Dropout(0.1, rngs=rngs)

    model = Model(nnx.Rngs(0))
    assert plan(model) == plan(nnx.state(model, nnx.Param))
    assert plan(nnx.eval_shape(lambda: Model(nnx.Rngs(0)))) == plan(model)
    names = ("linear/bias", "linear/kernel", "norm/bias", "norm/scale")
    assert [leaf.path for leaf in plan(model).leaves] == list(names)
    two = plan({"actor": model, "critics": [model]})  # models inside a tree
    assert by_path(two).keys() == {f"{m}/{n}" for m in ("actor", "critics/0") for n in names}


def test_the_rules_are_shown_to_who_asks():
    shown, more = str(plan(PARAMS, RULES)), str(plan(PARAMS, RULES, why=True))
    assert more.startswith(shown) and "rule 1, qkv/kernel$" not in shown
    assert "Why, rule by rule:\nbias: rule 2, " in more


def test_the_rules_are_shown_with_the_reasons_of_doubts():
    shapes = {f"codes_{i}": {"kernel": shape((4096, 64))} for i in range(2)}
    made = plan(shapes | {"up": {"kernel": shape((64, 64))}}, why=True)
    doubt = made.doubts[0].doubt
    assert str(made).endswith(f"\ncodes_{{0..1}}/kernel (?): {doubt}")


def test_operations_are_in_a_unit_that_suits_the_total():
    for side, cell in ((2, "240 FLOP"), (64, "7.86 MFLOP"), (4096, "2.06 TFLOP")):
        head, _, line, _, total = str(plan({"kernel": shape((side, side))})).splitlines()
        assert f"{line.split()[-1]} {head.split()[-1]}" == cell
        assert total.endswith(f"1 matrix. Its polar factor takes {cell} a step.")
    lines = str(
        plan({f"l_{n}": {"kernel": shape((n, n))} for n in (8, 512, 4096)})
    ).splitlines()
    assert [line.split()[-1] for line in lines[2:5]] == ["2.06", "0.004", "<0.001"]


@pytest.mark.parametrize(
    ("params", "found"),
    [
        ({"a": optax.MaskedNode()}, "no leaves"),
        ({"w": shape((2, 2)), "f": jnp.tanh}, "<PjitFunction of .* at 'f'"),
        ({"rate": 0.1}, "0.1 at 'rate'"),  # what a filter of shapes leaves of a model
    ],
)
def test_shapes_of_equinox_are_an_error_that_says_what_to_write(params, found):
    write = r"use eqx\.filter_eval_shape\(lambda key: eqx\.filter\(Model"
    with pytest.raises(ValueError, match=f"`params` has {found}; pass .* {write}"):
        plan(params)


def test_what_muon_refuses_its_plan_refuses():
    with pytest.raises(
        ValueError, match=r"leaf 'f'.* eqx\.filter\(model, eqx\.is_inexact_array"
    ):
        plan({"f": jnp.tanh, "kernel": jnp.ones((2, 2))})
    with pytest.raises(ValueError, match="no matrix to train"):
        plan({"bias": jnp.ones(3)})
    with pytest.raises(ValueError, match=r"leaf 'a'.*no rule in"):
        plan({"a": jnp.ones((2, 3, 4, 5))})
    with pytest.raises(ValueError, match="unknown name 'svg'"):
        plan(PARAMS, RULES, method="svg")
    with pytest.raises(ValueError, match=r"learning_rate=-0.1; use a number ≥ 0, or a sched"):
        plan(PARAMS, RULES, learning_rate=-0.1)
    with pytest.raises(ValueError, match="shape_scaling='muon'"):
        plan(PARAMS, RULES, shape_scaling="muon")
