"""Muon with cautious weight decay."""

import optax

from benchmarks.track.entry import Settings
from muon_optax import add_cautious_weight_decay, scale_by_muon, scale_by_shape

TITLE = "Muon, cautious decay"
START = Settings(rate=0.03)


def matrices(s, dims):
    return optax.chain(
        scale_by_muon(beta=s.momentum, dims=dims),
        scale_by_shape(dims=dims),
        add_cautious_weight_decay(s.decay),
        optax.scale_by_learning_rate(s.rate),
    )
