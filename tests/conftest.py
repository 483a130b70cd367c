"""Fixtures of the whole suite."""

from importlib.util import find_spec

import jax
import pytest

collect_ignore = [] if find_spec("torch") else ["test_torch.py"]


@pytest.fixture
def x64():
    """float64 and complex128 for one test."""
    before = jax.config.read("jax_enable_x64")
    jax.config.update("jax_enable_x64", True)
    yield
    jax.config.update("jax_enable_x64", before)


@pytest.fixture
def key():
    """A fixed random key; every test draws from its own copy."""
    return jax.random.key(42)
