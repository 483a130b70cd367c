"""A killed run with faulty gradients ends in the bits of an undisturbed one."""

import math

import jax
import numpy as np
import pytest

from tests.quality.soak import Kill, soak
from tests.quality.soak.model import IS_MATRIX, LEAVES, PARTS, add_fault, init


@pytest.fixture(scope="module")
def found(tmp_path_factory):
    """Sixty steps, and one kill as soon as a write begins."""
    return soak(tmp_path_factory.mktemp("soak"), 60, 10, [Kill(25, True, 0.0)])


def test_a_killed_run_has_the_bits_of_one_that_was_not(found):
    digests = found["digests"]
    assert digests["equal"] == digests["compared"] > found["steps"] // found["every"]
    assert found["ends"]["killed"] == found["ends"]["alone"]


def test_a_torn_checkpoint_is_skipped_for_the_newest_whole_one(found):
    (kill,) = found["kills"]
    assert kill["torn"] and kill["begins"] == kill["whole"]
    # A write waits for the previous one, so a kill costs at most two intervals.
    assert kill["last"] - kill["begins"] <= 2 * found["every"]


def test_all_gradients_that_are_not_finite_are_skipped_and_no_others(found):
    expected = found["faults"]["skipped"]
    assert expected["matrices"] > IS_MATRIX.sum() and expected["fallback"] > 0
    assert found["ends"]["killed"]["skipped"] == expected
    assert found["ends"]["killed"]["finite"] == {"params": True, "state": True}


def test_each_process_compiles_the_step_once(found):
    assert found["programs"] == [{"traces": 1, "compiled": 0}] * 3


def test_the_loss_falls(found):
    assert found["loss"][-1] < 0.95 * found["loss"][0]
    assert math.isfinite(found["highest_loss"])


@pytest.mark.parametrize("factor", [math.nan, 1e30])
def test_a_fault_changes_one_part_only(factor):
    grads = init()
    factors = np.ones(len(PARTS), np.float32)
    factors[PARTS.index("down") + 3] = factor
    faulty = jax.jit(add_fault)(grads, factors)
    changed = {name: np.asarray(grads[name] != faulty[name]) for name in LEAVES}
    entries = changed["down"].reshape(8, -1).sum(1).tolist()
    expected = 1 if math.isnan(factor) else grads["down"].size // 8
    assert entries == [0, 0, 0, expected, 0, 0, 0, 0]
    assert not any(x.any() for name, x in changed.items() if name != "down")
