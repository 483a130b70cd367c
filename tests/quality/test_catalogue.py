"""Every hard input of the catalogue has the expected outcome in this library."""

import functools

import optax
import pytest
from test_variants import VARIANTS

from muon_optax import FLAX, partition_matrices
from muon_optax.transforms._gradients import cast_like_params
from tests.quality.catalogue import ROWS
from tests.quality.catalogue.checks import judge
from tests.quality.catalogue.libraries import OURS, Library

# Of NaN and infinity, of leaves that cannot be trained, and of dtypes: rows that ask neither
# for Muon's own update nor for weights of zero.
OF_EVERY_VARIANT = (13, 14, 23, 24, 25, 27, 29, 31, 33, 34)


@pytest.mark.parametrize("row", ROWS, ids=str)
def test_the_expected_outcome(row):
    row.check(OURS)


@pytest.mark.parametrize("row", [r for r in ROWS if r.number in OF_EVERY_VARIANT], ids=str)
@pytest.mark.parametrize("name", VARIANTS)
def test_the_expected_outcome_of_a_variant(name, row):
    def whole_model(rate, dims=FLAX, **options):
        matrices = functools.partial(VARIANTS[name], rate, **options)
        return partition_matrices(matrices, cast_like_params(optax.adamw(rate)), dims)

    policies = ("propagate", "skip")
    translate = lambda options, alias: options
    row.check(Library(name, whole_model, VARIANTS[name], translate, policies, OURS.plan))


def test_gradient_descent_fails_the_checks_it_should_fail():
    sgd = Library(
        "sgd", optax.sgd, optax.identity, lambda options, alias: {}, ("propagate",), None
    )
    found = {row.number: judge(row, sgd)["outcome"] for row in ROWS if row.number in (1, 8, 38)}
    assert found == {1: "right", 8: "wrong", 38: "wrong"}
