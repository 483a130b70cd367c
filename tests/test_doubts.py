"""Doubts are heard, and advice works as written: at init, in errors, and by `exclude`."""

import re
import warnings

import jax
import jax.numpy as jnp
import optax
import pytest
from trees import leaves, sides, table

from muon_optax import FLAX, LAYOUTS, Rule, muon, plan
from muon_optax.dims import exclude_leaves, resolve

BLOCKS = "{0}/qkv/kernel:8,24 {0}/up/kernel:8,32 {0}/down/kernel:32,8 {0}/norm/scale:8"
MODEL = " ".join(BLOCKS.format(f"h_{i}") for i in range(3)) + " scores/kernel:8,5"


def follow(message):
    """The `dims` that an error or a warning says to write."""
    code = re.search(r"^  dims=(\(\n(?s:.*?)\n  \))$", message, re.MULTILINE)
    namespace = {"Rule": Rule, "LAYOUTS": LAYOUTS, "FLAX": FLAX}
    return eval(code[1], namespace)  # noqa: S307 (our own code)


def arrays(tree):
    return {k: arrays(v) if isinstance(v, dict) else jnp.ones(v.shape) for k, v in tree.items()}


def test_init_warns_once_of_all_doubtful_leaves_with_rules_that_settle_them():
    params = arrays(leaves(MODEL))
    with pytest.warns(UserWarning) as caught:
        muon(0.1).init(params)
    (warning,) = caught
    message = str(warning.message)
    assert warning.filename == __file__ and "not sure of 4 leaves" in message
    assert "# h_{0..2}/qkv/kernel (8, 24): its name says that it consists of several" in message
    dims = follow(message)
    assert len(dims) == len(FLAX) + 2
    with warnings.catch_warnings(action="error"):
        muon(0.1, dims=dims).init(params)
    assert sides(params, dims)["h_0/qkv/kernel"] == (1, 8, 8)  # each of three
    assert sides(params, dims)["scores/kernel"] is None


def test_a_step_does_not_warn():
    params = arrays(leaves(MODEL))
    tx = muon(0.1)
    with pytest.warns(UserWarning):
        state = tx.init(params)
    with warnings.catch_warnings(action="error"):
        tx.update(params, state, params)


def test_what_exclude_names_goes_to_the_fallback():
    params = arrays(leaves(MODEL))
    names = ("scores", r"h_[01]/qkv", "h_2/qkv/kernel")
    with warnings.catch_warnings(action="error"):
        state = muon(1.0, exclude=names, fallback=optax.sgd(1.0)).init(params)
    assert state.inner_states.keys() == {"muon", "fallback"}
    found = {leaf.path for leaf in plan(params, exclude=names).leaves if leaf.matrices}
    assert found == {f"h_{i}/{name}/kernel" for i in range(3) for name in ("up", "down")}


def test_an_excluded_name_is_a_whole_part_of_a_path():
    params = leaves("Dense_1/kernel:4,4 Dense_10/kernel:4,4 my_Dense_1/kernel:4,4")
    found = sides(params, exclude_leaves(FLAX, "Dense_1"))
    assert [path for path, view in found.items() if view is None] == ["Dense_1/kernel"]


def test_exclude_serves_every_form_of_dims():
    params = leaves("a/w:2,3 b/w:4,5")
    for dims in (FLAX, Rule("all", "", "in out"), {"a": "in out", "b": "in out"}, None):
        found = sides(params, exclude_leaves(dims, ["b"]))
        assert found == table("a/w:1,2,3 b/w"), dims
    assert sides(params, exclude_leaves(lambda params: FLAX, "b")) == table("a/w:1,2,3 b/w")


def test_a_leaf_that_no_rule_knows_may_be_excluded():
    params = leaves("up/kernel:4,8 odd:2,3,4")
    assert sides(params, exclude_leaves(FLAX, "odd")) == table("up/kernel:1,4,8 odd")


@pytest.mark.parametrize(
    ("exclude", "message"),
    [
        (("Dens_1",), r"`exclude` has 'Dens_1'.*did you mean 'Dense_1'"),
        (("zzz",), r"`exclude` has 'zzz', .*no path; the first path is 'Dense_1/kernel'"),
        ((1,), r"exclude=\(1,\); use a tuple of names"),
        ("a(", r"`exclude` has 'a\(', which matches no path"),
    ],
)
def test_a_name_that_excludes_nothing_is_an_error(exclude, message):
    with pytest.raises(ValueError, match=message):
        resolve(exclude_leaves(FLAX, exclude), leaves("Dense_1/kernel:4,4"))


# Ten models whose authors had names of their own: the layout that was given, the leaves, and
# what those that no rule knows are.
SHELL = "embed/embedding:90,64 norm/scale:64 "
MISNAMED = {
    "heads to the width": ("flax", "b_{i}/mix_heads/kernel:4,16,64", (1, 64, 64)),
    "the width to heads": ("flax", "b_{i}/split_up/kernel:64,4,16", (1, 64, 64)),
    "four groups of heads": ("flax", "b_{i}/join/kernel:2,4,8,64", (1, 64, 64)),
    "a stack of layers": (
        "flax",
        "b_{i}/s/mix/kernel:3,4,16,64 b_{i}/s/norm/scale:3,64 b_{i}/s/up/kernel:3,64,64",
        (3, 64, 64),
    ),
    "scanned along the second axis": (
        "maxtext",
        "odd_{i}/join/kernel:4,16,64 decoder/layers/norm/scale:64,3",
        (1, 64, 64),
    ),
    "of Hugging Face": ("hugging_face", "h/{i}/mix/kernel:4,16,64", (1, 64, 64)),
    "of Keras": ("keras", "block_{i}_mix/kernel:4,16,64", (1, 64, 64)),
    "of EasyDeL": ("easydel", "model/layers/{i}/mix/kernel:64,4,16", (1, 64, 64)),
    "of Haiku": ("haiku", "net/~/mix_{i}/w:4,2,8,64", (1, 64, 64)),
    "behind a rule of one's own": ("mine", "b_{i}/mix/kernel:4,16,64", (1, 64, 64)),
}


@pytest.mark.parametrize("model", MISNAMED)
def test_following_the_advice_to_the_letter_is_one_round(model):
    layout, text, expected = MISNAMED[model]
    words = dict.fromkeys(word for i in range(3) for word in text.format(i=i).split())
    params = leaves(SHELL + " ".join(words))
    given = (Rule("mine", "^mine$", None), *FLAX) if layout == "mine" else LAYOUTS[layout]
    dims = follow(said_of(params, given))
    assert len(dims) == len(given) + 1, "one rule for layers that are alike"
    with warnings.catch_warnings(action="error"):
        jax.eval_shape(muon(0.1, dims=dims).init, params)
    found = sides(params, dims)
    assert [found[path] for path in found if re.search("mix|join|split", path)] == [
        expected
    ] * 3


def said_of(params, dims):
    """The error or the warning of `init`."""
    with warnings.catch_warnings(record=True, action="always") as caught:
        try:
            jax.eval_shape(muon(0.1, dims=dims).init, params)
        except ValueError as error:
            return str(error)
    return str(caught[0].message)
