"""Muon on a momentum whose neurons have one norm: MuonEq, arXiv 2603.28254."""

import optax

from benchmarks.track.entry import Settings
from benchmarks.track.variants.equilibrated import equilibrate_neurons
from muon_optax import scale_by_shape
from muon_optax.transforms._momentum import accumulate_momentum
from muon_optax.transforms._orthogonalize import orthogonalize_momentum

TITLE = "MuonEq"
START = Settings(rate=0.03)


def matrices(s, dims):
    momentum = equilibrate_neurons(accumulate_momentum(s.momentum), dims=dims)
    return optax.chain(
        orthogonalize_momentum(momentum, "jordan", dims),
        scale_by_shape(dims=dims),
        optax.add_decayed_weights(s.decay),
        optax.scale_by_learning_rate(s.rate),
    )
