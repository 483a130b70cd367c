"""A state in a checkpoint: saved with a version, and read without a template."""

import jax
import jax.numpy as jnp
import numpy as np
import orbax.checkpoint as ocp
import pytest
from jobs import begun, draw, restored

from muon_optax import compat, muon, scale_by_muon

TX = muon(0.02)
PARAMS = draw(np.random.default_rng(0))
SAVED = compat.to_checkpoint(TX.init(PARAMS))


def test_a_state_is_saved_with_a_version_and_read_without_a_template(tmp_path):
    tx = muon(0.02)
    params, state = begun(tx)
    saved = restored(tmp_path, compat.to_checkpoint(state), None)
    assert int(saved["version"]) == 3
    found = compat.from_checkpoint(saved, like=jax.eval_shape(tx.init, params))
    assert jax.tree.structure(found) == jax.tree.structure(state)
    jax.tree.map(np.testing.assert_array_equal, found, state)


def test_a_template_of_shapes_serves_orbax(tmp_path):
    tx = muon(0.02)
    params, state = begun(tx)
    like = compat.to_checkpoint(jax.eval_shape(tx.init, params))
    like["version"] = jax.ShapeDtypeStruct((), jnp.int32)
    with ocp.StandardCheckpointer() as checkpointer:
        checkpointer.save(tmp_path / "state", compat.to_checkpoint(state))
        checkpointer.wait_until_finished()
        saved = checkpointer.restore(tmp_path / "state", like)
    jax.tree.map(np.testing.assert_array_equal, compat.from_checkpoint(saved, state), state)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (
            lambda: compat.from_checkpoint({"a": 1}, TX.init(PARAMS)),
            r"`saved` has the keys \['a'\], not 'leaves'.*Use transfer\(saved, like=",
        ),
        (
            lambda: compat.from_checkpoint({**SAVED, "version": 4}, TX.init(PARAMS)),
            r"`saved` has version 4, but only version 3 can be read.*transfer\(saved, like=",
        ),
        (
            lambda: compat.from_checkpoint(
                compat.to_checkpoint(muon(lambda t: 0.1).init(PARAMS)), TX.init(PARAMS)
            ),
            r"it has \d leaves that `like` lacks, such as \['inner_states.*count'",
        ),
        (
            lambda: compat.from_checkpoint(SAVED, muon(lambda t: 0.1).init(PARAMS)),
            r"it lacks \d leaves of `like`, .*'inner_states.*count'.*transfer\(",
        ),
        (
            lambda: compat.from_checkpoint(
                SAVED, scale_by_muon(dims="in out").init(PARAMS["table"])
            ),
            r"lacks 2 leaves of `like`, such as \['count', 'mu.embedding'\], and it has \d+ ",
        ),
        (
            lambda: compat.to_checkpoint({"a": {"b": jnp.ones(1)}, "a.b": jnp.ones(1)}),
            "two leaves share the path 'a.b'",
        ),
        (
            lambda: compat.from_checkpoint(
                SAVED, TX.init({**PARAMS, "table": {"embedding": jnp.ones((12, 7))}})
            ),
            r"embedding' .*saved with shape \(12, 6\)",
        ),
    ],
)
def test_a_checkpoint_that_does_not_match_says_what_to_do(make, message):
    with pytest.raises(ValueError, match=message):
        make()
