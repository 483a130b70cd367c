"""QK-Clip: logits of real projections, computed again after the weights were clipped."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from muon_optax._leaves import LeafError
from muon_optax.transforms._qk_clip import clip_factors, qk_clip

WIDTH, HEADS, DEPTH, THRESHOLD = 16, 4, 8, 30.0
SPREAD = np.array([8.0, 1.0, 3.0, 0.5])  # of queries, so that only some heads are clipped


def weights(key_heads, seed=0, dtype=np.float32):
    rng = np.random.default_rng(seed)
    query = rng.standard_normal((WIDTH, HEADS, DEPTH)) * SPREAD[:, None]
    return query.astype(dtype), rng.standard_normal((WIDTH, key_heads, DEPTH)).astype(dtype)


def logits(query, key, seed=1):
    """`[heads, tokens, tokens]` in float64; consecutive query heads share a key head."""
    x = np.random.default_rng(seed).standard_normal((12, WIDTH)) / np.sqrt(WIDTH)
    query, key = np.asarray(query, np.float64), np.asarray(key, np.float64)
    key = np.repeat(key, query.shape[1] // key.shape[1], axis=1)
    q, k = (np.einsum("td,dhk->htk", x, w) for w in (query, key))
    return np.einsum("hqk,hsk->hqs", q, k) / np.sqrt(DEPTH) * 10


def largest(query, key):
    return logits(query, key).max(axis=(1, 2))


def test_weights_clip_some_heads_and_not_others():
    for key_heads in (1, 2, 4):
        over = largest(*weights(key_heads)) > THRESHOLD
        assert over[0] and not over[3]


@pytest.mark.parametrize("key_heads", [1, 2, 4])
def test_every_heads_logits_are_scaled_by_exactly_its_factor(key_heads):
    query, key = weights(key_heads)
    clip = jax.jit(partial(qk_clip, threshold=THRESHOLD))
    clipped = clip(query, key, largest(query, key))
    gamma = np.minimum(1, THRESHOLD / largest(query, key))
    expected = gamma[:, None, None] * logits(query, key)
    np.testing.assert_allclose(logits(*clipped), expected, rtol=1e-5, atol=1e-5)
    assert (largest(*clipped) <= THRESHOLD * (1 + 1e-6)).all()
    assert largest(*clipped)[0] == pytest.approx(THRESHOLD, rel=1e-6)  # and no smaller


def test_query_and_key_of_a_head_share_its_factor_alike():
    query, key = weights(HEADS)
    root = np.sqrt(np.minimum(1, THRESHOLD / largest(query, key)))[:, None]
    new_query, new_key = qk_clip(query, key, largest(query, key), THRESHOLD)
    np.testing.assert_allclose(new_query, query * root, rtol=1e-6)
    np.testing.assert_allclose(new_key, key * root, rtol=1e-6)


def test_a_shared_key_takes_the_root_of_its_smallest_factor():
    query, key = weights(2)
    max_logits = np.array([120.0, 60.0, 30.0, -5.0])  # γ = 1/4, 1/2 | 1, 1
    new_query, new_key = qk_clip(query, key, max_logits, THRESHOLD)
    np.testing.assert_allclose(new_key, key * np.array([[0.5], [1.0]]), rtol=1e-6)
    np.testing.assert_allclose(new_query, query * np.array([[0.5], [1], [1], [1]]), rtol=1e-6)


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_heads_below_the_threshold_are_the_same_bit_for_bit(dtype):
    query, key = (jnp.asarray(w, dtype) for w in weights(HEADS))
    kept = largest(query, key) <= THRESHOLD
    assert kept.any() and not kept.all()
    clipped = qk_clip(query, key, largest(query, key), THRESHOLD)
    for new, old in zip(clipped, (query, key)):
        np.testing.assert_array_equal(new[:, kept], old[:, kept])
        assert not np.array_equal(new[:, ~kept], old[:, ~kept])


@pytest.mark.parametrize("dtype", ["float16", "bfloat16", "float64", "complex64"])
def test_weights_keep_their_dtypes(dtype, x64):
    query, key = weights(2)
    new_query, new_key = qk_clip(jnp.asarray(query, dtype), key, jnp.full(HEADS, 400.0))
    assert (new_query.dtype, new_key.dtype) == (dtype, jnp.float32)


def test_bfloat16_weights_are_rounded_once():
    query, key = (jnp.asarray(w, jnp.bfloat16) for w in weights(2))
    max_logits = largest(query, key)
    wide = qk_clip(*(w.astype(jnp.float32) for w in (query, key)), max_logits, THRESHOLD)
    for new, exact in zip(qk_clip(query, key, max_logits, THRESHOLD), wide):
        np.testing.assert_array_equal(new, exact.astype(jnp.bfloat16))


def test_factors_are_taken_in_float32():
    """In bfloat16, 100/230 would be 0.4355."""
    factors = clip_factors(jnp.array([230.0], jnp.bfloat16))
    assert factors.dtype == jnp.float32
    np.testing.assert_allclose(factors, 100 / 230, rtol=1e-6)


def test_the_threshold_itself_is_allowed():
    np.testing.assert_array_equal(clip_factors(jnp.array([99.0, 100.0, 200.0])), [1, 1, 0.5])


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf, 0.0, -400.0])
def test_a_logit_that_is_not_finite_and_positive_leaves_its_head_alone(bad):
    key_heads = 2
    query, key = weights(key_heads)
    max_logits = np.array([bad, bad, 120.0, 120.0])
    new_query, new_key = qk_clip(query, key, max_logits, THRESHOLD)
    np.testing.assert_array_equal(new_query[:, :2], query[:, :2])
    np.testing.assert_array_equal(new_key[:, : key_heads // 2], key[:, : key_heads // 2])
    np.testing.assert_allclose(new_query[:, 2:], query[:, 2:] / 2, rtol=1e-6)


def test_the_largest_finite_logit_does_not_poison_the_weights():
    query, key = weights(HEADS)
    max_logits = np.full(HEADS, np.finfo(np.float32).max)
    assert all(np.isfinite(w).all() for w in qk_clip(query, key, max_logits, threshold=1e-6))


def test_scanned_layers_are_clipped_layer_by_layer():
    layers = [weights(2, seed) for seed in range(3)]
    query, key = (np.stack(w) for w in zip(*layers))
    max_logits = np.stack([largest(*w) for w in layers])
    found = qk_clip(query, key, max_logits, THRESHOLD)
    for i, (q, k) in enumerate(layers):
        expected = qk_clip(q, k, max_logits[i], THRESHOLD)
        for new, old in zip(found, expected):
            np.testing.assert_array_equal(new[i], old)


def test_one_number_per_head_serves_all_layers():
    query, key = (np.stack([w, w]) for w in weights(2))
    max_logits = largest(*weights(2))
    alone = qk_clip(*weights(2), max_logits, THRESHOLD)
    for new, old in zip(qk_clip(query, key, max_logits, THRESHOLD), alone):
        np.testing.assert_array_equal(new, np.stack([old, old]))


@pytest.mark.parametrize("axis", [0, 2, -1, -3])
def test_heads_may_be_on_any_axis(axis):
    query, key = weights(2)
    max_logits = largest(query, key)
    moved = (np.moveaxis(w, 1, axis) for w in (query, key))
    found = qk_clip(*moved, max_logits, THRESHOLD, head_axis=axis)
    for new, old in zip(found, qk_clip(query, key, max_logits, THRESHOLD)):
        np.testing.assert_array_equal(np.moveaxis(new, axis, 1), old)


def test_biases_are_clipped_too():
    """As a further row of the kernel, which is what a bias is."""
    query, key = weights(2)
    max_logits = largest(query, key)
    whole = qk_clip(query, key, max_logits, THRESHOLD)
    rows = qk_clip(query[0], key[0], max_logits, THRESHOLD)
    for row, w in zip(rows, whole):
        np.testing.assert_array_equal(row, w[0])


def test_latent_attention_leaves_its_shared_rotary_key_alone():
    query, key = weights(HEADS)
    rotary_query, rotary_key = weights(1, seed=2)
    total = logits(query, key) + logits(rotary_query, rotary_key)
    max_logits = total.max(axis=(1, 2))
    gamma = clip_factors(max_logits, THRESHOLD)
    assert (gamma < 1).any() and (gamma == 1).any()
    query, key = qk_clip(query, key, max_logits, THRESHOLD)
    after = logits(query, key) + logits(rotary_query * gamma[:, None], rotary_key)
    expected = np.asarray(gamma)[:, None, None] * total
    np.testing.assert_allclose(after, expected, rtol=1e-5, atol=1e-4)


ONES = np.ones((WIDTH, HEADS, DEPTH), np.float32)
FOUR = np.ones(HEADS, np.float32)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: qk_clip(ONES, ONES, FOUR, 0.0), "threshold=0.0; use a number > 0"),
        (lambda: clip_factors(FOUR, threshold=None), "threshold=None; use a number > 0"),
        (lambda: qk_clip(ONES, ONES, np.ones(3)), r"leaf 'query'.*4 heads .* shape \(3,\)"),
        (
            lambda: qk_clip(ONES, ONES[:, :3], FOUR),
            "leaf 'key'.*3 heads .*cannot be shared by 4 query heads; use a divisor",
        ),
        (lambda: qk_clip(ONES, ONES[:, :0], FOUR), "leaf 'key'.*0 heads"),
        (lambda: qk_clip(ONES, ONES, 5.0), r"shape \(\); use \[heads\], or"),
        (lambda: qk_clip(ONES, ONES, np.ones((2, HEADS))), r"leaf 'query'.*shape \(2, 4\)"),
        (
            lambda: qk_clip(ONES, ONES[:1], np.ones((WIDTH, HEADS))),
            r"leaf 'key'.*shape \(16, 4\); use \[heads\], or",
        ),
        (lambda: qk_clip(ONES, ONES, FOUR, head_axis=3), "head_axis=3; use an axis"),
        (lambda: qk_clip(ONES, ONES, FOUR, head_axis=-4), "head_axis=-4; use an axis"),
        (
            lambda: qk_clip(ONES, ONES, np.ones((WIDTH, HEADS)), head_axis=0),
            "head_axis=0; .*not one of the 1 batch axes",
        ),
        (
            lambda: qk_clip(ONES.astype(int), ONES, FOUR),
            "leaf 'query'.*only real or complex floats",
        ),
        (lambda: qk_clip(ONES, None, FOUR), "leaf 'key'.*not an array"),
    ],
)
def test_bad_arguments_say_what_to_write(call, message):
    with pytest.raises(ValueError, match=message) as error:
        call()
    assert isinstance(error.value, LeafError) or "threshold" in message
