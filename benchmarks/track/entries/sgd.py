"""SGD with Nesterov's momentum: the same momentum as Muon's, without the polar step."""

import optax

from benchmarks.track.entry import Settings

TITLE = "SGD, momentum"
START = Settings(rate=0.1, rest_rate=0.04, decay=0.05, momentum=0.93)


def matrices(s, dims):
    return optax.chain(
        optax.trace(s.momentum, nesterov=True),
        optax.add_decayed_weights(s.decay),
        optax.scale_by_learning_rate(s.rate),
    )
