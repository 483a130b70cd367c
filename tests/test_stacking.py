"""Equal matrices share a call, whatever their order; the cap changes nothing but memory."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from muon_optax import METHODS
from muon_optax.stacking import map_stacked

SHAPES = [(1, 4, 6), (2, 6, 4), (1, 3, 3), (3, 4, 6), (1, 6, 5), (0, 4, 6), (1, 0, 3)]


@pytest.fixture
def stacks(key):
    return [jax.random.normal(k, s) for k, s in zip(jax.random.split(key, len(SHAPES)), SHAPES)]


def test_there_is_one_call_per_distinct_pair_of_sides_and_dtype(stacks):
    calls = []
    stacks = [*stacks, stacks[0].astype(jnp.bfloat16)]
    map_stacked(lambda x: (calls.append((x.shape, str(x.dtype))), x)[1], stacks)
    assert calls == [
        ((6, 4, 6), "float32"),
        ((1, 3, 3), "float32"),
        ((1, 5, 6), "float32"),
        ((1, 0, 3), "float32"),
        ((1, 4, 6), "bfloat16"),
    ]


@pytest.mark.parametrize("max_bytes", [None, 10**9, 4 * 24 * 4, 4 * 24, 1])
def test_stacking_equals_one_call_each(stacks, max_bytes):
    """XLA may order a sum differently in a batch: a few ulps of the polar factor."""
    polar = METHODS["taylor2"].polar
    found = map_stacked(polar, stacks, max_bytes)
    for y, x in zip(found, stacks):
        assert y.shape == x.shape
        np.testing.assert_allclose(y, polar(x), atol=30 * np.finfo("float32").eps)


@pytest.mark.parametrize(
    ("max_bytes", "expected"),
    [(96, [96] * 6), (200, [192] * 3), (300, [288] * 2), (400, [192, 384]), (600, [576])],
)
def test_no_call_exceeds_the_cap(stacks, max_bytes, expected):
    """Six 4×6 matrices of 96 bytes; the callback sees every call, those in a loop too."""
    sizes = []

    def seen(x):
        jax.debug.callback(lambda y: sizes.append(y.size * 4), x)
        return x

    six = [stacks[0], stacks[1], stacks[3]]
    jax.block_until_ready(map_stacked(seen, six, max_bytes))
    jax.effects_barrier()
    assert sorted(sizes) == expected


def test_a_square_keeps_its_orientation(stacks):
    square = stacks[2]
    np.testing.assert_array_equal(map_stacked(lambda x: 2 * x, [square])[0], 2 * square)
