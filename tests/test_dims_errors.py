"""What cannot be read is an error that names the leaf and says what to write."""

import re

import jax
import jax.numpy as jnp
import pytest
from trees import leaves, sides

from muon_optax import EQUINOX, FLAX, LAYOUTS, MuonDimensionNumbers, Rule
from muon_optax.dims import resolve

SPEC_2D = MuonDimensionNumbers(0, 1)

UNKNOWN = """
    a/kernel:2,3,4,5 MoeBlock_0/DenseGeneral_0/kernel:768,12,64 x_einsum/w:8,32,16
    moe_layers/self_attention/qkv_proj/kernel:64,12,3,4,8 wq/kernel:32,4,8,2
    moe_layers/mlp/wi/kernel:64,12,2,32 DenseGeneral_0/kernel:2,3,4"""


def test_a_leaf_that_no_rule_fits_is_an_error_that_names_it():
    for word in UNKNOWN.split():
        path, _ = word.split(":")
        with pytest.raises(ValueError, match=f"'{path}'.*no rule in `dims` fits"):
            resolve(FLAX, leaves(word))


CONTRADICTIONS = {
    "linear/weight:8,32 linear/bias:8": r"'linear/weight'.*'matrix'.*\(32,\), but .*\(8,\)",
    "Conv_0/kernel:5,3,3,4,8 Conv_0/bias:5,6": r"'Conv_0/kernel'.*bias.*\(5, 8\), .*\(5, 6\)",
    "wq/kernel:32,4,8 wo/kernel:4,8,32": "'wo/kernel'.*'stack of .* with 4, but 'wq/kernel'",
    "wx/kernel:32,4,8 wy/kernel:32,16": "'wx/kernel'.*'stack of .*'wy/kernel'.*one axis each",
}


@pytest.mark.parametrize("params", CONTRADICTIONS)
def test_a_leaf_that_contradicts_its_neighbours_is_an_error_that_names_both(params):
    with pytest.raises(ValueError, match=CONTRADICTIONS[params]):
        resolve(FLAX, leaves(params))


def test_advice_builds_on_the_rules_that_were_given():
    own = Rule("u", "u", "in out", guess=True)
    code = "Rule('u', r'u', 'in out', guess=True),\n"
    layout = "      *LAYOUTS['maxtext'],\n  )"
    for rules, given in (
        (LAYOUTS["maxtext"], f"None),\n{layout}"),
        ((own,), f"      {code}  )"),
        ((own, *LAYOUTS["maxtext"]), f"      {code}{layout}"),
    ):
        with pytest.raises(ValueError, match=re.escape(given)) as error:
            sides(leaves("zzz:2,3,4"), rules)
        assert "      Rule('zzz', r'^zzz$', None),\n" in str(error.value)


MATRIX = leaves("a/w:2,3")
ONE_OF_EACH = "'a/w'.*at least one reduction axis and one output axis"


@pytest.mark.parametrize(
    ("dims", "message"),
    [
        ("maxtext", r"dims='maxtext'; use dims=LAYOUTS\['maxtext'\]"),
        ("Flx", r"dims='Flx'; use dims=LAYOUTS\['flax'\]"),
        ((Rule("mine", "z", None), FLAX), r"`dims` has Rule.* at '0'; .*\*FLAX"),
        ({"a": {"w": (0, 1)}}, r"`dims` has 0 at 'a/w/0'; use a string"),
        ({"a": {"w": 2.0}}, "`dims` has 2.0 at 'a/w'; use a string such as 'in out'"),
        ({"a": {"w": "matrix"}}, "leaf 'a/w' is wrong(?s:.*)\\^ no axis is named 'in'"),
        (MuonDimensionNumbers(0, 2), r"'a/w' \(shape \(2, 3\).*axes that do not exist"),
        (MuonDimensionNumbers(0, 0), "'a/w'.*none twice"),
        (MuonDimensionNumbers(-2, 0), "'a/w'.*none twice"),
        (MuonDimensionNumbers((), (0, 1)), ONE_OF_EACH),
        (MuonDimensionNumbers((0, 1), ()), ONE_OF_EACH),
        (
            {"a": {"w": None, "v": None}},
            "None at 'a/v', where the tree has no parameter.*'a/w'",
        ),
        ({"a": {"w": None}, "c": SPEC_2D}, "at 'c', where the tree has no"),
        ({}, "leaf 'a/w'.*`dims` has no spec for this leaf"),
    ],
)
def test_a_spec_that_does_not_fit_is_an_error_that_names_the_leaf(dims, message):
    with pytest.raises(ValueError, match=message):
        resolve(dims, MATRIX)


def test_advice_names_the_leaf_and_every_rule_that_is_missing():
    own = (Rule("mine", "z", None), *FLAX)
    two = r"In all, 2 leaves have no rule. Pass these rules(?s:.*)n/kernel(?s:.*)\*EQUINOX,\n"
    layout = r"\*FLAX,(?s:.*)a layout with a rule for every leaf: dims=LAYOUTS\['maxtext'\]"
    for params, dims, message in (
        ("u:2,3,4", FLAX, r"'u' \(shape \(2, 3, 4\), float32\)(?s:.*)r'\^u\$', None\)"),
        ("layers/wi/kernel:8,3,16 n/kernel:4,3", EQUINOX, two),
        ("layers/wi_0/kernel:8,3,16 layers/scale:4,3", own, layout),
    ):
        with pytest.raises(ValueError, match=message):
            resolve(dims, leaves(params))


@pytest.mark.parametrize(
    ("params", "dims", "message"),
    [
        (
            leaves("b:3"),
            {"b": MuonDimensionNumbers(0, 0)},
            "'b'.*use None if the leaf is not a matrix",
        ),
        (
            leaves("w:3"),
            None,
            r"leaf 'w' \(shape \(3,\).*dims=None, .*each leaf needs two axes",
        ),
        (leaves("w:2,3,4"), None, "with dims=None, .* each leaf needs two axes"),
        ({"a/w": jnp.ones((2, 3))} | MATRIX, FLAX, "two leaves share the path 'a/w'"),
        ({"w": jnp.ones((2, 3), int)}, FLAX, r"leaf 'w' \(shape \(2, 3\), int32\): only"),
        ({"w": 1.0}, FLAX, r"leaf 'w' \(float 1.0\): not an array"),
        ({"key": jax.random.key(0)}, FLAX, "leaf 'key'.*only real or complex floats"),
    ],
)
def test_a_leaf_that_cannot_be_read_is_an_error_that_names_it(params, dims, message):
    with pytest.raises(ValueError, match=message):
        resolve(dims, params)


def test_a_wrong_rule_is_told_when_it_is_made():
    for spec, pattern, message in (
        (("in", "out"), "w", r"rule 'mine' has spec=\('in', 'out'\); use a string such as"),
        (3, "w", "rule 'mine' has spec=3"),
        (None, "w(", r"rule 'mine' has pattern='w\(', .*expression: missing \)"),
    ):
        with pytest.raises(ValueError, match=message):
            Rule("mine", pattern, spec)
