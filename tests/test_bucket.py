"""The stacks of one device: what shares a call, and that sharing changes nothing."""

from dataclasses import replace

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from muon_optax import METHODS, SVD, DualNorm, MethodPlan
from muon_optax.batching import _bucket
from muon_optax.batching._bucket import polar_on_device
from muon_optax.polar._method import batched

# Wide, tall and square, a single matrix or a batch, and two that are empty.
SHAPES = [(4, 6), (2, 6, 4), (3, 3), (3, 4, 6), (6, 5), (4, 9), (0, 4, 6), (0, 3), (6, 4)]


@pytest.fixture
def stacks(key):
    return [jax.random.normal(k, s) for k, s in zip(jax.random.split(key, len(SHAPES)), SHAPES)]


class Doubling:
    """A method that doubles, in float32, and keeps the shapes of its calls."""

    def __init__(self, bucket):
        self.bucket, self.calls = bucket, []

    def plan(self, m, n, dtype, platform):
        return MethodPlan(m * m * n, self.bucket(m, n, dtype))

    def prepare(self, x, platform):
        return x.astype(jnp.float32)

    def polar_stacks(self, operands, platform, team=None):
        self.calls.append([x.shape for x in operands])
        return [2 * x for x in operands]


def calls_of(bucket, stacks):
    method = Doubling(bucket)
    polars, _ = polar_on_device(method, "cpu", stacks, [None] * len(stacks))
    for y, x in zip(polars, stacks):
        assert y.dtype == x.dtype
        np.testing.assert_array_equal(y, 2 * x)
    return method.calls


def test_what_shares_a_bucket_shares_a_call_but_nothing_that_has_none(stacks):
    stacks.append(stacks[0].astype(jnp.bfloat16))
    assert calls_of(lambda m, n, dtype: (m, n, str(dtype)), stacks) == [
        [(4, 6), (2, 6, 4), (3, 4, 6), (6, 4)],
        [(3, 3)],
        [(6, 5)],
        [(4, 9)],
        [(4, 6)],
    ]
    own = [[x.shape] for x in stacks if x.size]
    assert calls_of(lambda *_: None, stacks) == own


def test_a_group_has_neighbors_until_it_is_full(stacks, monkeypatch):
    monkeypatch.setitem(_bucket._GROUP_SIZE, "cpu", 81)
    calls = calls_of(lambda *_: "any", stacks)
    assert [[np.prod(s) for s in call] for call in calls] == [[24, 48, 9], [72], [30, 36], [24]]


SHARING = {
    "float32": replace(METHODS["taylor2"], compute_dtype="float32"),
    "rows": replace(METHODS["taylor2"], normalize="aol"),
    "direct": replace(METHODS["taylor2"], form="direct"),
    "svd": SVD(),
    "dual norm": DualNorm(METHODS["taylor2"]),
}


@pytest.mark.parametrize("size", [1, 81, 2**20])
@pytest.mark.parametrize(
    ("name", "platform"),
    [*((name, "cpu") for name in SHARING), ("float32", "gpu"), ("float32", "tpu")],
)
def test_in_every_group_a_matrix_has_its_own_polar_factor(
    name, platform, size, stacks, monkeypatch
):
    """XLA may order a sum differently in a batch: a few ulps of the polar factor."""
    monkeypatch.setitem(_bucket._GROUP_SIZE, platform, size)
    method, momenta = SHARING[name], [3 * x for x in stacks]
    polars, written = polar_on_device(batched(method), platform, stacks, momenta)
    for x, y, momentum, found in zip(stacks, polars, momenta, written, strict=True):
        expected = method.polar(x)
        assert y.shape == x.shape
        atol = 30 * np.finfo("float32").eps * max(1, np.max(np.abs(expected), initial=0))
        np.testing.assert_allclose(y, expected, rtol=0, atol=atol)
        np.testing.assert_array_equal(found, momentum)
