"""JAX's strict modes: no implicit rank promotion, no implicit dtype promotion."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from muon_optax import (
    METHODS,
    DualNorm,
    NewtonSchulz,
    add_cautious_weight_decay,
    add_independent_weight_decay,
    diagnostics,
    muon,
    normalize_sides,
    qk_clip,
    scale_by_muon,
    scale_by_neuron_rms,
    scale_by_shape,
)

EVERY = METHODS | {
    "dual norm": DualNorm(),
    **{n: NewtonSchulz(normalize=n) for n in ("aol", "schatten4", "spectral", "paper")},
}


def matrices(dtype):
    key = jax.random.key(0)
    return {
        "wide": jax.random.normal(key, (3, 4, 12)).astype(dtype),
        "square": jax.random.normal(key, (6, 6)).astype(dtype),
        "tall": jax.random.normal(key, (10, 4)).astype(dtype),
    }


DIMS = {"wide": "stack in out", "square": "in out[a=2 b=4]", "tall": "in out"}


@pytest.fixture(autouse=True)
def strict():
    with jax.numpy_rank_promotion("raise"), jax.numpy_dtype_promotion("strict"):
        yield


def run(tx, grads):
    jax.eval_shape(lambda g: tx.update(g, tx.init(g), g), grads)


@pytest.mark.parametrize("method", EVERY.values(), ids=EVERY)
def test_every_method_steps(method):
    for dtype in ("float16", "float32", "bfloat16", "complex64"):
        run(scale_by_muon(method, dims=DIMS), matrices(dtype))


@pytest.mark.parametrize("dtype", ["float16", "bfloat16", "float32"])
def test_every_transformation_steps(dtype):
    for tx in (
        scale_by_muon(dims=DIMS, on_nonfinite="skip", mu_dtype="bfloat16"),
        normalize_sides(dims=DIMS),
        scale_by_neuron_rms(dims=DIMS),
        scale_by_shape("adam_rms", dims=DIMS),
        add_cautious_weight_decay(np.float64(0.1)),
        add_independent_weight_decay(lambda count: 0.1),
    ):
        run(tx, matrices(dtype))


def test_muon_steps_with_every_option():
    dims = DIMS | {"bias": None}
    params = matrices("bfloat16") | {"bias": jnp.ones(4, "bfloat16")}
    for options in (
        {},
        {"record_every": 2, "on_nonfinite": "skip"},
        {"fallback": optax.sgd(1)},
    ):
        run(muon(0.1, dims=dims, weight_decay=0.1, **options), params)


def test_measures_and_qk_clip_compute():
    x = matrices("float32")["wide"]
    for measure in diagnostics.MEASURES.values():
        jax.eval_shape(measure, x, x, x)
    for dtype in ("float32", "bfloat16"):
        weight = jnp.ones((2, 8, 4, 3), dtype)
        jax.eval_shape(qk_clip, weight, weight, jnp.full((2, 4), 200.0))


@pytest.mark.parametrize("rate", [np.float64(0.02), np.float32(0.02), np.float16(0.02)])
def test_a_numpy_scalar_is_a_rate_like_a_python_number(rate):
    params = {"kernel": jnp.eye(4, 8, dtype="bfloat16"), "bias": jnp.ones(8, "bfloat16")}
    with jax.numpy_dtype_promotion("standard"), jax.numpy_rank_promotion("allow"):
        (found, after), (expected, before) = (
            tx.update(params, tx.init(params), params)
            for tx in (muon(r, weight_decay=r, beta=r, adam_b1=r) for r in (rate, float(rate)))
        )
    assert all(jax.tree.leaves(jax.tree.map(jnp.array_equal, found, expected)))
    dtypes = lambda tree: [x.dtype for x in jax.tree.leaves(tree)]
    assert {*map(str, dtypes(found))} == {"bfloat16"} and dtypes(after) == dtypes(before)
