"""What a logger, a plot or a person reads in an optimizer's state."""

import json
import sys

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from muon_optax import SVD, muon, partition_matrices, place_state
from muon_optax.diagnostics import (
    MEASURES,
    History,
    RecordState,
    flat,
    latest,
    momentum,
    record_updates,
)


def record(step, **numbers):
    """A state whose last record has these alignments, one leaf a keyword."""
    measured = {f"{leaf}/kernel": {"alignment": jnp.array(x)} for leaf, x in numbers.items()}
    return {"inner": RecordState(None, jnp.array(step + 1), jnp.array(step), measured, {})}


@pytest.mark.parametrize(
    "tx",
    [
        optax.contrib.muon(0.1),
        partition_matrices(
            lambda dims: record_updates(1, optax.ema(0.95), SVD(), dims=dims), optax.sgd(0.1)
        ),
        place_state(
            optax.inject_hyperparams(muon, static_args="record_every")(0.1, record_every=1)
        ),
    ],
    ids=["of optax", "recorded", "wrapped"],
)
def test_the_momentum_is_found_by_path_and_has_the_parameters_shape(tx):
    params = {"up": {"kernel": jnp.ones((3, 4)), "bias": jnp.ones(4)}}
    _, state = jax.jit(tx.update)(params, tx.init(params), params)
    found = momentum(state)
    assert list(found) == ["up/kernel"]
    np.testing.assert_allclose(found["up/kernel"], 0.05 * params["up"]["kernel"], rtol=1e-6)


def test_a_leaf_with_one_matrix_has_a_float_and_a_logger_sees_floats_only():
    state = record(3, one=[0.5], many=[0.25, 1.0, 1.0])
    _, measured = latest(state)
    assert measured["one/kernel"] == {"alignment": 0.5}
    assert measured["many/kernel"]["alignment"].tolist() == [0.25, 1.0, 1.0]
    assert flat(state) == {
        "alignment/one/kernel": 0.5,
        "alignment/many/kernel/min": 0.25,
        "alignment/many/kernel/mean": 0.75,
        "alignment/many/kernel/max": 1.0,
    }
    assert all(type(x) is float for x in flat(state).values())
    assert flat(record(-1, one=[0.0])) == {}


def test_a_history_takes_new_steps_alone_and_comes_back_from_json():
    history = History()
    states = [(-1, 0.0), (0, 0.5), (0, 0.5), (10, 0.75), (0, 0.9)]
    added = [history.add(record(step, one=[x], many=[x, 1.0])) for step, x in states]
    assert added == [False, True, False, True, False]
    values = {"one/kernel": [0.5, 0.75], "many/kernel": [[0.5, 1.0], [0.75, 1.0]]}
    values = {path: {"alignment": of_leaf} for path, of_leaf in values.items()}
    assert history == History([0, 10], values)
    assert History(**json.loads(json.dumps(history.to_dict()))) == history
    with pytest.raises(ValueError, match=r"the record has \['other/kernel'\].*new History\(\)"):
        history.add(record(20, other=[0.5]))


def test_a_panel_shows_median_range_and_what_is_healthy_of_finite_matrices():
    history = History()
    for step, broken in ((0, 7.0), (10, np.nan)):
        history.add(record(step, one=[0.5], many=[0.25, 1.0, broken]))
    (axes,) = history.plot("alignment", healthy={"alignment": (0.3, 1.1)}).axes
    (line,) = axes.lines
    np.testing.assert_array_equal(line.get_xydata(), [[0, 0.75], [10, 0.5]])
    band, healthy = axes.collections[0].get_datalim(axes.transData), axes.patches[0].get_bbox()
    assert (band.y0, band.y1) == (0.25, 7.0) and (healthy.y0, healthy.y1) == (0.3, 1.1)
    assert axes.get_title(loc="left") == "alignment" and axes.get_ylabel() and axes.get_xlabel()


def test_a_plot_has_a_panel_for_every_measure_or_says_what_it_lacks(monkeypatch):
    history = History([0], {"w": {name: [1.0] for name in sorted(MEASURES)}})
    assert [axes.get_title(loc="left") for axes in history.plot().axes] == [*MEASURES]
    with pytest.raises(ValueError, match=r"nothing was recorded; call history.add\(state\)"):
        History().plot()
    with pytest.raises(ValueError, match="measure='rank'; use one of"):
        history.plot("rank")
    monkeypatch.setitem(sys.modules, "matplotlib.figure", None)
    with pytest.raises(ImportError, match="pip install matplotlib"):
        History().plot()
