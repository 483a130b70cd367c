"""Muon whose step moves a matrix by at most a part of its Frobenius norm, for fine-tuning."""

import jax
import jax.numpy as jnp
import optax

from benchmarks.track.entry import Settings, muon

TITLE = "Muon, capped"
START = Settings(rate=0.01)
PART = 0.002


def matrices(s, dims):
    return optax.chain(muon(s, dims), optax.stateless(cap))


def cap(updates, params):
    def shorten(update, matrix):
        longest = PART * jnp.linalg.norm(matrix)
        return update * jnp.minimum(1, longest / (jnp.linalg.norm(update) + 1e-30))

    return jax.tree.map(shorten, updates, params)
