"""Equal matrices share a call, whatever their order; the cap changes nothing but memory."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from muon_optax import METHODS
from muon_optax.batching import _bucket
from muon_optax.batching._bucket import map_by_bucket, polar_bucket

SHAPES = [(1, 4, 6), (2, 6, 4), (1, 3, 3), (3, 4, 6), (1, 6, 5), (0, 4, 6), (1, 0, 3)]


@pytest.fixture
def stacks(key):
    return [jax.random.normal(k, s) for k, s in zip(jax.random.split(key, len(SHAPES)), SHAPES)]


class Applied:
    """A method whose call is a function of its stacks."""

    def __init__(self, function):
        self.function = function

    def polar_stacks(self, stacks, platform, axes=()):
        return self.function(stacks)


def map_stacked(function, stacks, max_bytes=None, key=None, platform="cpu"):
    polar = functools.partial(polar_bucket, Applied(function), max_bytes, platform)
    return map_by_bucket(polar, key or (lambda m, n, dtype: (m, n, dtype)), stacks)


def called(stacks, **options):
    """What `map_stacked` calls its function with: the shapes and dtypes of every call."""
    calls = []

    def function(xs):
        calls.append([(x.shape, str(x.dtype)) for x in xs])
        return xs

    map_stacked(function, stacks, **options)
    return calls


def test_there_is_one_call_per_distinct_pair_of_sides_and_dtype(stacks):
    assert called([*stacks, stacks[0].astype(jnp.bfloat16)]) == [
        [((6, 4, 6), "float32")],
        [((1, 3, 3), "float32")],
        [((1, 5, 6), "float32")],
        [((1, 4, 6), "bfloat16")],
    ]


def test_what_shares_a_key_shares_a_call_but_for_memory(stacks):
    def short_side(m, n, dtype):
        return m

    wider = jnp.ones((2, 4, 9))
    assert called([*stacks, wider], key=short_side) == [
        [((6, 4, 6), "float32"), ((2, 4, 9), "float32")],
        [((1, 3, 3), "float32")],
        [((1, 5, 6), "float32")],
    ]
    alone = called([*stacks, wider], key=short_side, max_bytes=600)
    assert [((6, 4, 6), "float32")] in alone and [((2, 4, 9), "float32")] in alone


@pytest.mark.parametrize("max_bytes", [None, 10**9, 4 * 24 * 4, 4 * 24, 1])
def test_stacking_equals_one_call_each(stacks, max_bytes):
    """XLA may order a sum differently in a batch: a few ulps of the polar factor."""
    polar = METHODS["taylor2"].polar
    stacks = [*stacks, stacks[0]]  # seven of 4×6, so that slices of four leave a rest
    found = map_stacked(lambda xs: [polar(x) for x in xs], stacks, max_bytes)
    for y, x in zip(found, stacks):
        assert y.shape == x.shape
        np.testing.assert_allclose(y, polar(x), atol=30 * np.finfo("float32").eps)


@pytest.mark.parametrize(
    ("max_bytes", "expected"),
    [(96, [96] * 7), (200, [96] + [192] * 3), (300, [96] + [288] * 2), (400, [288, 384])],
)
def test_no_call_exceeds_the_cap(stacks, max_bytes, expected):
    """Seven 4×6 matrices of 96 bytes; the callback sees every call, those in a loop too."""
    sizes = []

    def seen(xs):
        jax.debug.callback(lambda x: sizes.append(x.size * 4), xs[0])
        return xs

    seven = [stacks[0], stacks[1], stacks[3], stacks[0]]
    jax.block_until_ready(map_stacked(seen, seven, max_bytes))
    jax.effects_barrier()
    assert sorted(sizes) == expected


def test_a_square_keeps_its_orientation(stacks):
    square = stacks[2]
    (found,) = map_stacked(lambda xs: [2 * x for x in xs], [square])
    np.testing.assert_array_equal(found, 2 * square)


def test_slices_are_written_in_place():
    """The largest tree fits beside itself: 1.5 times its size, where a copy would make it 2."""
    stacks = [jax.ShapeDtypeStruct((1, 512, 1024), jnp.float32)] * 16

    def polar(xs):
        return METHODS["jordan"].polar_stacks(xs, "cpu")

    def step(params, grads):
        updates = map_stacked(polar, [2 * g + 1 for g in grads], 2**22)
        return [p + u for p, u in zip(params, updates)]

    program = jax.jit(step, donate_argnums=0).lower(stacks, stacks)
    temporary = program.compile().memory_analysis().temp_size_in_bytes
    assert temporary <= 1.5 * 16 * 512 * 1024 * 4


def test_what_is_written_one_by_one_is_the_same(monkeypatch):
    stacks = [jnp.full((k, 2, 3), float(k)) for k in (1, 2, 3)]
    joined = []
    monkeypatch.setattr(_bucket, "_LARGE_BYTES", 1)
    map_stacked(lambda xs: (joined.extend(xs), xs)[1], stacks)
    np.testing.assert_array_equal(joined[0], jnp.concatenate(stacks))


@pytest.mark.parametrize(("platform", "calls"), [("cpu", 2), ("accelerator", 1)])
def test_without_a_cap_a_call_gets_what_suits_the_platform(platform, calls):
    """24 MiB: more than the 16 of a CPU, less than the 256 of an accelerator."""
    seen = []

    def function(xs):
        seen.append(len(xs[0]))
        return xs

    stack = jax.ShapeDtypeStruct((6, 1024, 1024), jnp.float32)
    jax.eval_shape(lambda x: map_stacked(function, [x], platform=platform), stack)
    assert set(seen) == {6 // calls}


def test_a_function_that_returns_another_dtype_is_cast_back():
    (found,) = map_stacked(
        lambda xs: [x.astype("float32") for x in xs], [jnp.ones((4, 2, 3), "bfloat16")], 24
    )
    assert found.dtype == jnp.bfloat16
