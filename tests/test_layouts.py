"""Every leaf of public models has the right label, or is marked; what a rule by rank makes."""

import gallery
import jax
import layouts
import optax
import pytest

from muon_optax import LAYOUTS
from muon_optax._leaves import path_name


def paths(models, *outcomes):
    return [
        f"{model}: {path}"
        for model in models
        for path, outcome in layouts.outcomes(model).items()
        if outcome in outcomes
    ]


# The outputs of this layer are reshaped to a matrix, as nothing around it shows.
RESHAPED = ["diffrax_neural_cde: func/mlp/layers/1/weight"]


@pytest.mark.parametrize("models", [layouts.KNOWN, layouts.SET_ASIDE], ids=["known", "aside"])
def test_no_leaf_of_a_public_model_is_wrong_without_a_mark(models):
    assert paths(models, "wrong") == (RESHAPED if models is layouts.SET_ASIDE else [])
    assert sum(layouts.count(models).values()) == sum(len(layouts.leaves(m)) for m in models)


@pytest.mark.parametrize("models", [layouts.KNOWN, layouts.SET_ASIDE], ids=["known", "aside"])
def test_few_leaves_are_refused_or_marked_without_need(models):
    found = layouts.count(models)
    assert found["refused"] <= 0.02 * sum(found.values())
    assert found["false alarm"] <= 0.02 * (found["right"] + found["false alarm"])


def test_a_third_of_the_models_was_set_aside_and_they_use_every_layout():
    assert len(layouts.SET_ASIDE) >= len(layouts.DATA) / 3 and len(layouts.DATA) >= 60
    assert {model["rules"] for model in layouts.DATA.values()} == {*LAYOUTS}


def test_the_gallery_is_of_today():
    text = gallery.PAGE.read_text()
    assert gallery.filled(text) == text, "run `python tests/gallery.py`"


def test_a_rule_by_rank_treats_no_public_model_as_intended():
    """Optax's default, counted over all leaves; the gallery has the table."""
    for model in layouts.DATA:
        assert layouts.by_rank(model).keys() - {"right"}, model
    leaves, params = layouts.leaves("gemma"), layouts.params("gemma")
    state = jax.eval_shape(optax.contrib.muon(0.1).init, params)
    mu = state.inner_states["muon"].inner_state[0].mu
    rank_two = {path for path, (shape, _) in leaves.items() if len(shape) == 2}
    assert {path_name(path) for path, _ in jax.tree.leaves_with_path(mu)} == rank_two
