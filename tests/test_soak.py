"""A run with faulty gradients survives kills: the same bits, no more lost than may be."""

import math

import jax
import numpy as np
import pytest

from benchmarks.soak import main
from benchmarks.soak.faults import IS_MATRIX, PARTS, spoil
from benchmarks.soak.model import LEAVES, init

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def found():
    return main(smoke=True)


def test_a_killed_run_has_the_bits_of_one_that_was_not(found):
    digests = found["digests"]
    assert digests["equal"] == digests["compared"] > found["steps"] // found["every"]
    assert found["ends"]["killed"] == found["ends"]["alone"]


def test_a_torn_checkpoint_is_passed_over_for_the_newest_whole_one(found):
    (kill,) = found["kills"]
    assert kill["torn"] and kill["begins"] == kill["whole"]


def test_a_kill_during_a_write_costs_two_intervals_at_most(found):
    (kill,) = found["kills"]
    every = found["every"]
    assert every <= kill["last"] - kill["begins"] <= 2 * every  # a write waits for the last


def test_all_that_is_not_finite_is_skipped_and_nothing_else(found):
    due = found["faults"]["skipped"]
    assert due["matrices"] > IS_MATRIX.sum() and due["fallback"] > 0
    assert found["ends"]["killed"]["skipped"] == due
    assert found["ends"]["killed"]["finite"] == {"params": True, "state": True}


def test_a_process_compiles_once_whether_it_begins_or_goes_on(found):
    assert len(found["programs"]) == 3
    assert all(p == {"traces": 1, "compiled": 0} for p in found["programs"])


def test_the_loss_falls_and_stays_finite(found):
    assert found["loss"][-1] < 0.95 * found["loss"][0]
    assert math.isfinite(found["highest_loss"])


@pytest.mark.parametrize("factor", [math.nan, math.inf, 0.0, 1e30])
def test_a_fault_changes_its_part_and_no_other(factor):
    grads, spoiled = init(), jax.jit(spoil)
    for part, name in enumerate(PARTS):
        factors = np.ones(len(PARTS), np.float32)
        factors[part] = factor
        changed = changed_entries(grads, spoiled(grads, factors))
        entries = grads[name].size // PARTS.count(name) if math.isfinite(factor) else 1
        assert changed == [entries * (other == part) for other in range(len(PARTS))]


def changed_entries(before, after):
    """Of each part, how many."""
    found = []
    for name, leaf in LEAVES.items():
        differs = np.asarray(before[name] != after[name])
        found += differs.reshape(leaf.matrices or 1, -1).sum(1).tolist()
    return found
