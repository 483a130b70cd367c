"""Every hard input of the catalogue has the expected outcome in this library."""

import optax
import pytest

from tests.quality.catalogue import ROWS
from tests.quality.catalogue.checks import judge
from tests.quality.catalogue.libraries import OURS, Library


@pytest.mark.parametrize("row", ROWS, ids=str)
def test_the_expected_outcome(row):
    row.check(OURS)


def test_gradient_descent_fails_the_checks_it_should_fail():
    sgd = Library(
        "sgd", optax.sgd, optax.identity, lambda options, alias: {}, ("propagate",), None
    )
    found = {row.number: judge(row, sgd)["outcome"] for row in ROWS if row.number in (1, 8, 38)}
    assert found == {1: "right", 8: "wrong", 38: "wrong"}
