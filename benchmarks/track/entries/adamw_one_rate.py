"""AdamW with one rate for everything."""

import optax

from benchmarks.track.entry import Settings

TITLE = "AdamW, one rate"
START = Settings(rate=0.01, decay=0.1, momentum=0.9)
ONE_RATE = True


def matrices(s, dims):
    return optax.adamw(s.rate, b1=s.momentum, b2=0.95, weight_decay=s.decay)
