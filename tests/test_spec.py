"""Strings that name the axes of a logical matrix: what they see, and where they are wrong."""

import functools
import re

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from muon_optax import muon, scale_by_muon, scale_by_shape
from muon_optax._leaves import LeafError
from muon_optax.dims import Rule, SpecError, resolve, view_of

# Name → shape, spec, the matrices that Muon sees: (batch, fan_in, fan_out) of every stack.
SPECS = {
    "Dense": ((6, 8), "in out", [(1, 6, 8)]),
    "torch or Equinox": ((8, 6), "out in", [(1, 6, 8)]),
    "one axis for both": ((48,), "(in=6 out)", [(1, 6, 8)]),
    "heads together": ((6, 4, 3), "in out out", [(1, 6, 12)]),
    "per head": ((6, 4, 3), "in heads out", [(4, 6, 3)]),
    "per head of a fused axis": ((6, 12), "in (heads=4 out)", [(4, 6, 3)]),
    "output per head": ((4, 3, 6), "heads in out", [(4, 3, 6)]),
    "several batch axes": ((2, 3, 6, 8), "layers experts in out", [(6, 6, 8)]),
    "any batch axes": ((2, 3, 6, 8), "... in out", [(6, 6, 8)]),
    "none of any": ((6, 8), "... in out", [(1, 6, 8)]),
    "layers on the second axis": ((6, 5, 8), "in layers out", [(5, 6, 8)]),
    "convolution HWIO": ((3, 3, 4, 8), "in in in out", [(1, 36, 8)]),
    "convolution OIHW": ((8, 4, 3, 3), "out in in in", [(1, 36, 8)]),
    "equal parts": ((6, 24), "in out[q k v]", [(1, 6, 8)] * 3),
    "unequal parts": ((6, 16), "in out[q=8 k=4 v=4]", [(1, 6, 8), (1, 6, 4), (1, 6, 4)]),
    "parts that are a stack": ((6, 24), "in (qkv=3 out)", [(3, 6, 8)]),
    "interleaved groups": (
        (6, 24),
        "in (groups=2 out[q=8 k=2 v=2])",
        [(2, 6, 8), (2, 6, 2), (2, 6, 2)],
    ),
    "parts of the rows": ((3, 10, 4), "layers in[a=6 b=4] out", [(3, 6, 4), (3, 4, 4)]),
    "heads of unequal parts": (
        (5, 6, 8, 2),
        "layers in out[q=4 k=2 v=2] out",
        [(5, 6, 8), (5, 6, 4), (5, 6, 4)],
    ),
    "sizes are checked": ((6, 8), "in=6 out=8", [(1, 6, 8)]),
}


def test_a_string_gives_the_matrices_that_it_names():
    found = {
        name: list(view_of(spec, "x", jax.ShapeDtypeStruct(shape, float)).sides)
        for name, (shape, spec, _) in SPECS.items()
    }
    assert found == {name: expected for name, (_, _, expected) in SPECS.items()}


def test_parts_and_factors_are_cut_where_the_string_says():
    x = np.arange(6 * 24.0).reshape(6, 24)
    cases = {
        "in out[q=16 k=4 v=4]": [x[None, :, :16], x[None, :, 16:20], x[None, :, 20:]],
        "in (heads=4 out)": [x.reshape(6, 4, 6).transpose(1, 0, 2)],
        "out[a b] in": [x[None, :3].mT, x[None, 3:].mT],
        "in (out heads=4)": [x.reshape(6, 6, 4).transpose(2, 0, 1)],
        "in (groups=2 out[q=8 k=4])": [
            x.reshape(6, 2, 12)[..., :8].transpose(1, 0, 2),
            x.reshape(6, 2, 12)[..., 8:].transpose(1, 0, 2),
        ],
    }
    for spec, expected in cases.items():
        found = view_of(spec, "x", x).to_matrices(jnp.asarray(x))
        for stack, matrices in zip(found, expected, strict=True):
            np.testing.assert_array_equal(stack, matrices)


def test_update_and_scale_are_those_of_each_matrix_alone():
    """A fused leaf is trained as its matrices would be, were they leaves of their own."""
    fused = {name: (shape, spec) for name, (shape, spec, _) in SPECS.items() if "[" in spec}
    dims = {name: spec for name, (_, spec) in fused.items()}
    whole = {name: re.sub(r"\[.*\]", "", spec) for name, spec in dims.items()}
    g = {
        name: jax.random.normal(jax.random.key(0), shape) for name, (shape, _) in fused.items()
    }

    def matrices(tree):
        return {n: view_of(dims[n], n, x).to_matrices(x) for n, x in tree.items()}

    @functools.partial(jax.jit, static_argnums=1)
    def step(grads, shared):
        dims = dict(shared) if isinstance(shared, tuple) else shared
        for tx in (scale_by_muon(dims=dims), scale_by_shape("rms_to_rms", dims=dims)):
            grads, _ = tx.update(grads, tx.init(grads))
        return grads

    found = step(g, tuple(dims.items()))
    # Rounding grows by Newton-Schulz' slope at 0, 485, and by the factor of the shape.
    jax.tree.map(
        functools.partial(np.testing.assert_allclose, atol=1e-3),
        matrices(found),
        step(matrices(g), "batch in out"),
    )
    for name, as_one in step(g, tuple(whole.items())).items():
        assert not np.allclose(found[name], as_one, atol=1e-2), name


def test_muon_trains_a_fused_leaf_by_a_rule_and_by_a_tree():
    params = {"qkv": {"kernel": jnp.ones((6, 16))}, "bias": jnp.ones(16)}
    spec = "in out[q=8 k=4 v=4]"
    trees = ({"qkv": {"kernel": spec}, "bias": None}, {"qkv": spec, "bias": None})
    rules = (Rule("qkv", "qkv/kernel", spec), Rule("rest", "", None))
    updates = []
    for dims in (*trees, rules):
        tx = muon(0.1, dims=dims)
        updates.append(jax.jit(tx.update)(params, tx.init(params), params)[0])
    for other in updates[1:]:
        np.testing.assert_array_equal(other["qkv"]["kernel"], updates[0]["qkv"]["kernel"])


def test_a_string_says_how_many_axes_its_rule_is_for():
    rules = (Rule("two", "w", "in out"), Rule("three", "w", "layers out in"))
    three, two = resolve(rules, {"a/w": jnp.ones((2, 3, 4)), "b/w": jnp.ones((3, 4))})
    assert (three.sides, two.sides) == (((2, 4, 3),), ((1, 3, 4),))


@pytest.mark.parametrize(
    ("spec", "position", "problem"),
    [
        ("in (heads=12 out", 16, "missing '\\)'"),
        ("in (heads= out)", 11, "expected a size"),
        ("in out heads=0", 13, "expected a size, a whole number ≥ 1"),
        ("in, out", 2, "expected an axis name, got ','"),
        ("in 4 out", 3, "expected an axis name, got '4'"),
        ("in out[q k", 10, "missing '\\]'"),
        ("in out[] out", 7, "expected an axis name, got ']'"),
        ("in out) in", 6, "expected an axis name, got '\\)'"),
        ("in () out", 4, "expected an axis name, got '\\)'"),
        ("in ... out", 3, "expected an axis name, got '...'"),
        ("in (heads=", 10, "expected a size"),
        ("inn out", 7, "no axis is named 'in'; batch axes are inn"),
        ("layers in", 9, "no axis is named 'out'"),
        ("", 0, "no axis is named 'in'"),
        ("in out[q=4 k]", 3, "give a size to every part or to none"),
        ("in heads[q k] out", 3, "only `in` and `out` axes can have parts"),
        ("in[a b] out[c d]", 8, "only one axis can have parts"),
    ],
)
def test_a_wrong_string_is_told_where(spec, position, problem):
    with pytest.raises(SpecError, match=problem) as caught:
        view_of(spec, "w", jnp.ones((4, 4)))
    lines = str(caught.value).splitlines()
    assert lines[0] == "the spec of leaf 'w' is wrong:"
    assert lines[1] == f"  {spec}" and lines[2].index("^") == 2 + position
    with pytest.raises(SpecError, match="the spec of rule 'mine' is wrong"):
        Rule("mine", "w", spec)


@pytest.mark.parametrize(
    ("spec", "problem"),
    [
        ("in out out", "is for 3 axes; write one word for each"),
        ("... in out out", "is for at least 3 axes"),
        ("in (heads=5 out)", r"the sizes of 'heads out' make 5, but the axis has length 12"),
        ("in=7 out", "the sizes of 'in' make 7, but the axis has length 6"),
        ("in (a=3 b=4 out=2)", "the sizes of 'a b out' make 24, but the axis has length 12"),
        ("in (a b=4 out)", r"give a size to all but one of \(a b out\)"),
        ("in out[q=4 k=4]", "the parts of 'out' add up to 8, not 12"),
        ("in out[a b c d e]", "12 is not divisible by 5"),
    ],
)
def test_a_string_that_does_not_fit_names_the_leaf(spec, problem):
    with pytest.raises(LeafError, match=rf"leaf 'a/w' \(shape \(6, 12\).*{problem}"):
        resolve({"a": {"w": spec}}, {"a": {"w": jnp.ones((6, 12))}})
