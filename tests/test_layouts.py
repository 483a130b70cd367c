"""Every leaf of public models gets the intended role; what a rule by rank makes of them."""

import gallery
import jax
import layouts
import optax

from muon_optax import LAYOUTS, dims
from muon_optax._leaves import path_name

MODELS = list(layouts.DATA)


def wrong(model, found):
    """The leaves that `found`, path → view, treats otherwise than intended."""
    return [
        path
        for path, (shape, reading) in layouts.leaves(model).items()
        if gallery.matrices(found[path])
        != gallery.matrices(dims.view_of(reading, path, layouts.struct(shape)))
    ]


def test_every_leaf_of_a_public_model_has_its_intended_role():
    for model in MODELS:
        tree = layouts.params(model)
        found = {leaf.path: leaf.view for leaf in dims.assign(layouts.rules(model), tree)}
        assert len(found) == len(layouts.leaves(model))
        assert wrong(model, found) == [], model


def test_the_models_use_every_rule_set():
    assert {layouts.DATA[model]["rules"] for model in MODELS} <= {*LAYOUTS}


def test_the_gallery_is_of_today():
    text = gallery.PAGE.read_text()
    assert gallery.filled(text) == text, "run `python tests/gallery.py`"


def test_a_rule_by_rank_treats_no_public_model_as_intended():
    """Optax's default, counted over all leaves; the gallery has the table."""
    for model in MODELS:
        leaves = layouts.leaves(model)
        right, *mistakes = gallery.rank_two(model)
        assert right + sum(mistakes) == len(leaves) and any(mistakes), model
        state = jax.eval_shape(optax.contrib.muon(0.1).init, layouts.params(model))
        mu = state.inner_states["muon"].inner_state[0].mu
        rank_two = {path for path, (shape, _) in leaves.items() if len(shape) == 2}
        found = {path_name(path) for path, _ in jax.tree.leaves_with_path(mu)}
        assert found == rank_two, model
