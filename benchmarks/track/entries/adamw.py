"""AdamW with a rate of its own for the matrices."""

import optax

from benchmarks.track.entry import Settings

TITLE = "AdamW, two rates"
START = Settings(rate=0.004, rest_rate=0.05, decay=0.3, momentum=0.9)


def matrices(s, dims):
    return optax.adamw(s.rate, b1=s.momentum, b2=0.95, weight_decay=s.decay)
