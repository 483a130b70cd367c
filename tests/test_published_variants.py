"""AdaMuon and Muown against their published formulas, in NumPy's float64."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from benchmarks.track.variants.adaptive import scale_by_entry_rms
from benchmarks.track.variants.muown import separate_neuron_norms
from muon_optax import (
    SVD,
    add_independent_weight_decay,
    scale_by_muon,
    scale_by_shape,
)


def polar(x):
    u, _, vt = np.linalg.svd(x, full_matrices=False)
    return u @ vt


class PolarOfSigns:
    """AdaMuon's polar step."""

    def polar(self, x):
        return SVD().polar(jnp.sign(x))


def train(tx, start, grads):
    w, update = jnp.asarray(start), jax.jit(tx.update)
    state = jax.jit(tx.init)(w)
    weights = []
    for g in jnp.asarray(grads):
        steps, state = update(g, state, w)
        w = optax.apply_updates(w, steps)
        weights.append(np.asarray(w))
    return np.stack(weights)


def draw(shape, steps=6):
    normal = np.random.default_rng(0).standard_normal
    return normal(shape), normal((steps, *shape))


def adamuon(w, grads, rate=0.01, beta=0.95, eps=1e-8, decay=0.1):
    """Algorithm 1 of arXiv 2507.11005, whose second moment has the decay of the momentum."""
    mu, v, weights = 0.0, 0.0, []
    for g in grads:
        mu = beta * mu + g
        o = polar(np.sign(mu))
        v = beta * v + (1 - beta) * o**2
        o = o / (np.sqrt(v) + eps)
        w = w - rate * (0.2 * np.sqrt(w.size) / np.linalg.norm(o) * o + decay * w)
        weights.append(w)
    return np.stack(weights)


# Signs of other shapes may have no full rank, and then there are many polar factors.
@pytest.mark.parametrize("shape", [(4, 9), (9, 4)], ids=str)
def test_a_chain_is_the_published_adamuon(shape, x64):
    start, grads = draw(shape)

    tx = optax.chain(
        scale_by_muon(PolarOfSigns(), nesterov=False, heavy_ball=True, bias_correction=False),
        scale_by_entry_rms(0.95),
        scale_by_shape("adam_rms"),
        optax.add_decayed_weights(0.1),
        optax.scale_by_learning_rate(0.01),
    )
    # The second moment is stored in float32. With 0.9, or without signs: more than 1e-4 off.
    np.testing.assert_allclose(train(tx, start, grads), adamuon(start, grads), atol=1e-8)


def test_eps_limits_the_update_of_an_entry_near_zero():
    o, tx = jnp.array([[1.0, 1e-6], [1.0, 1.0]]), scale_by_entry_rms(0.0, eps=1e-3)
    scaled = jax.jit(lambda o: tx.update(o, tx.init(o))[0])(o)
    np.testing.assert_allclose(scaled[0, 1] / scaled[0, 0], 1e-3, rtol=3e-3)


def muown(w, grads, decay, rate=0.02, beta=0.95, b1=0.9, b2=0.95, eps=1e-8):
    """The authors' step. Rows of their weights are columns here, and g keeps its sign."""
    v, g, m, m1, m2, weights = w, np.linalg.norm(w, axis=0), 0.0, 0.0, 0.0, []
    for t, grad in enumerate(grads, 1):
        norm = np.linalg.norm(v, axis=0)
        of_g = (grad * v / norm).sum(0)
        of_v = g / norm * (grad - of_g * v / norm)
        m = beta * m + of_v
        v = v - rate * 0.2 * np.sqrt(max(w.shape)) * polar(of_v + beta * m)
        m1, m2 = b1 * m1 + (1 - b1) * of_g, b2 * m2 + (1 - b2) * of_g**2
        g = g - rate * (m1 / (1 - b1**t)) / (np.sqrt(m2 / (1 - b2**t)) + eps)
        norm = np.linalg.norm(v, axis=0)
        w = g * v / norm - rate * decay * w
        g = np.sign(g) * np.linalg.norm(w, axis=0)
        v = w / g * norm
        weights.append(w)
    return np.stack(weights)


def chain_of_muown(decay):
    direction = optax.chain(
        scale_by_muon(SVD(), heavy_ball=True, bias_correction=False),
        scale_by_shape("adam_rms"),
        optax.scale_by_learning_rate(0.02),
    )
    norms = separate_neuron_norms(direction, optax.adam(0.02, 0.9, 0.95))
    return optax.chain(norms, add_independent_weight_decay(0.02 * decay))


@pytest.mark.parametrize(("shape", "decay"), [((4, 6), 0.0), ((6, 4), 0.1)], ids=str)
def test_ten_steps_equal_muowns_while_a_norm_goes_through_zero(shape, decay, x64):
    start, grads = draw(shape, steps=10)
    start[:, 0] *= 0.03
    grads[:, :, 0] = start[:, 0] + 0.1 * grads[:, :, 0]
    expected = muown(start, grads, decay)
    assert expected[-1, :, 0] @ start[:, 0] < 0
    found = train(chain_of_muown(decay), start, grads)
    # With another decay, or rows for columns: more than 1e-3 off.
    np.testing.assert_allclose(found, expected, atol=1e-12)


def test_weights_of_zero_move_by_the_step_of_their_direction():
    grads = draw((4, 6), 1)[1]
    tx = separate_neuron_norms(optax.sgd(0.1), optax.sgd(0.1))
    found = train(tx, np.zeros((4, 6)), grads)
    np.testing.assert_allclose(found, -0.1 * grads, rtol=1e-6)
