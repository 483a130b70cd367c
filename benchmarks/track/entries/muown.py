"""Muon for the direction of every neuron and Adam for its norm: Muown, arXiv 2605.10797."""

import optax

from benchmarks.track.entry import Settings
from benchmarks.track.variants.muown import separate_neuron_norms
from muon_optax import scale_by_muon, scale_by_shape

TITLE = "Muown"
START = Settings(rate=0.015)


def matrices(s, dims):
    direction = optax.chain(
        scale_by_muon(beta=s.momentum, dims=dims),
        scale_by_shape("adam_rms", dims=dims),
        optax.scale_by_learning_rate(s.rate),
    )
    return separate_neuron_norms(direction, optax.adam(s.rate, 0.9, 0.95), dims=dims)
