"""Every leaf of public models gets the intended role; what a rule by rank makes of them."""

import layouts
import pytest

from muon_optax import LAYOUTS, dims

MODELS = list(layouts.DATA)


def matrices(view):
    """What Muon sees: the axes of every stack, whatever their names."""
    return view and (view.shape, view.batch, view.reduction, view.output, view.parts)


def wrong(model, found):
    """The leaves that `found`, path → view, treats otherwise than intended."""
    return [
        path
        for path, (shape, reading) in layouts.leaves(model).items()
        if matrices(found[path]) != matrices(dims.view_of(reading, path, layouts.struct(shape)))
    ]


@pytest.mark.parametrize("model", MODELS)
def test_every_leaf_of_a_public_model_has_its_intended_role(model):
    tree = layouts.params(model)
    found = {path: view for path, view, _ in dims.assign(layouts.rules(model), tree)}
    assert len(found) == len(layouts.leaves(model))
    assert wrong(model, found) == []


def test_the_models_use_every_rule_set():
    assert {layouts.DATA[model]["rules"] for model in MODELS} == {*LAYOUTS}
