"""The update of two layers, compiled once for each target."""

import jax
import pytest

from benchmarks.programs import measure
from benchmarks.programs.models import MODELS
from muon_optax.estimates._targets import TARGETS


@pytest.fixture(scope="module", autouse=True)
def optimized():
    """The program that users get: the other tests leave most of XLA's work out."""
    before = jax.config.read("jax_disable_most_optimizations")
    jax.config.update("jax_disable_most_optimizations", False)
    yield
    jax.config.update("jax_disable_most_optimizations", before)


@pytest.fixture(scope="module")
def model():
    return MODELS["256x2"]()


@pytest.fixture(scope="module", params=["v5e", "h100"])
def target(request):
    return TARGETS[request.param]


@pytest.fixture(scope="module")
def row(target, model, optimized):
    return measure.update("muon", model, target)[0]
