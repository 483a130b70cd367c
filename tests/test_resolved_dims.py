"""`dims` resolved once for a whole tree, trees that are callable, views as keys, layouts."""

import copy
import inspect
import pickle
from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from muon_optax import EQUINOX, FLAX, LAYOUTS, MuonDimensionNumbers, Rule, dims, plan
from muon_optax.dims import matrix_views, resolve, resolve_once

PARAMS = {
    "conv": {"kernel": jnp.ones((12, 3, 4, 8)), "bias": jnp.ones((12, 8))},
    "up": {"kernel": jnp.ones((32, 64))},
}


def masked(params):
    """What `optax.partition` passes to the matrices' chain: the rest is masked."""
    return jax.tree.map(lambda x: optax.MaskedNode() if x.ndim == 2 else x, params) | {
        "up": params["up"]
    }


def test_a_function_is_called_once_and_later_answers_are_looked_up():
    calls = []

    def rules(params):
        calls.append(params)
        return FLAX

    resolved = resolve_once(rules, PARAMS)
    for _ in range(3):
        assert resolve(resolved, PARAMS) == resolve(FLAX, PARAMS)
        assert matrix_views(resolved, masked(PARAMS)) == [
            view for view in resolve(FLAX, PARAMS) if view
        ]
    assert len(calls) == 1
    planned = [
        [(leaf.path, leaf.matrices) for leaf in plan(PARAMS, d).leaves]
        for d in (resolved, FLAX)
    ]
    assert planned[0] == planned[1]


def test_a_part_of_a_tree_is_read_as_in_the_whole():
    """A stack of convolutions without the bias that says so would be one convolution."""
    part = {"conv": {"kernel": PARAMS["conv"]["kernel"]}}
    assert resolve(FLAX, part)[0].sides == ((1, 144, 8),)
    assert resolve(resolve_once(FLAX, PARAMS), part)[0].sides == ((12, 12, 8),)


def test_what_was_not_resolved_is_an_error_that_names_the_leaf():
    resolved = resolve_once("in out", {"w": jnp.ones((2, 3))})
    with pytest.raises(ValueError, match=r"leaf 'v'.*resolved for a tree without this leaf"):
        resolve(resolved, {"v": jnp.ones((2, 3))})
    with pytest.raises(ValueError, match=r"leaf 'w'.*for a leaf of shape \(2, 3\)"):
        resolve(resolved, {"w": jnp.ones((2, 4))})


@jax.tree_util.register_dataclass
@dataclass
class Model:
    """A tree with `__call__`, as an Equinox module or an `nnx.Module` is."""

    weight: Any
    bias: Any

    def __call__(self, x):
        raise AssertionError("a model is not a function of the parameters")


def test_specs_in_the_shape_of_a_callable_model_are_a_tree():
    params, specs = Model(jnp.ones((4, 3)), jnp.ones(4)), Model("out in", None)
    assert [view and view.sides for view in resolve(specs, params)] == [((1, 3, 4),), None]
    assert resolve_once(specs, params) == resolve_once(lambda _: specs, params)
    assert [leaf.optimizer for leaf in plan(params, specs).leaves] == ["Muon", "fallback"]


@pytest.mark.parametrize(
    "given", [{"w": "in out"}, (Rule("w", "w", "in out"),), lambda params: params["w"]]
)
def test_nothing_is_checked_in_a_tree_without_leaves(given):
    """`optax.tree_map_params` passes a placeholder without leaves to `init`."""
    for tree in ({}, None, optax.MaskedNode(), {"a": optax.MaskedNode()}):
        assert resolve(given, tree) == matrix_views(given, tree) == []
        assert resolve_once(given, tree).assignments == {}


@pytest.mark.parametrize(
    "spec",
    [
        MuonDimensionNumbers([0, 1], 2),
        MuonDimensionNumbers((0, 1), [2]),
        MuonDimensionNumbers([-3, -2], (-1,)),
        MuonDimensionNumbers(np.array([0, 1]), np.int64(2)),
        "in in out",
    ],
    ids=str,
)
def test_equal_views_are_equal_keys_however_their_axes_are_given(spec):
    x = jnp.ones((2, 3, 4))
    (view,) = resolve(spec, x)
    (expected,) = resolve(MuonDimensionNumbers((0, 1), (2,)), x)
    assert view == expected and hash(view) == hash(expected)
    axes = view.batch + view.reduction + view.output
    assert axes == (0, 1, 2) and {type(axis) for axis in axes} == {int}


def test_axes_that_are_not_integers_are_an_error_that_names_the_leaf():
    for axes in ("in", 0.5, None):
        with pytest.raises(ValueError, match=r"leaf 'w'.*must name its axes by integers"):
            resolve({"w": MuonDimensionNumbers(0, axes)}, {"w": jnp.ones((2, 3))})


def test_a_layout_shows_its_name_and_is_a_tuple():
    assert repr((FLAX, EQUINOX)) == "(FLAX, EQUINOX)"
    assert repr(LAYOUTS["hugging_face"]) == "LAYOUTS['hugging_face']"
    assert str(inspect.signature(plan)).count("dims: 'Dims' = FLAX,") == 1
    namespace = {"FLAX": FLAX, "EQUINOX": EQUINOX, "LAYOUTS": LAYOUTS, "dims": dims}
    for layout in (*LAYOUTS.values(), dims.RANK_TWO):
        assert eval(repr(layout), namespace) is layout  # noqa: S307 (our own repr)
        assert layout == tuple(layout) and hash(layout) == hash(tuple(layout))
        for other in (copy.deepcopy(layout), pickle.loads(pickle.dumps(layout))):
            assert other == layout and repr(other) == repr(layout)


def test_the_advice_works_as_written():
    """One rule for layers that are alike; the error names no leaf again once it is added."""
    layer = {"codes": {"a": jnp.ones((4, 8))}, "z": jnp.ones((2, 3, 4, 5))}
    params = {f"layer_{i}": layer for i in range(12)} | {
        "z_1": jnp.ones((3, 4)),
        "it's": jnp.ones((2, 2)),
    }
    params |= {"up_1": {"kernel": jnp.ones((4, 4))}, "up_2": {"kernel": jnp.ones((2, 3, 4, 5))}}
    with pytest.raises(ValueError, match="In all, 13 leaves have no rule") as error:
        resolve(LAYOUTS["hugging_face"], params)
    message = str(error.value)
    code = message[message.index("dims=(") : message.index("Check each spec")]
    namespace = {"Rule": Rule, "LAYOUTS": LAYOUTS}
    exec(code.strip(), namespace)
    resolve(namespace["dims"], params)
    assert len(namespace["dims"]) == 2 + len(LAYOUTS["hugging_face"])
