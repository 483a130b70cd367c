"""AdamW with a rate of its own for the matrices."""

import optax

from benchmarks.track.entry import Settings

TITLE = "AdamW, two rates"
START = Settings(rate=0.005)


def matrices(s, dims):
    return optax.adamw(s.rate, b1=s.momentum, b2=0.95, weight_decay=s.decay)
