"""AdaMuon, arXiv 2507.11005: the polar factor of signs, and a second moment of every entry."""

import jax.numpy as jnp

from benchmarks.track.entry import Settings, muon
from benchmarks.track.variants.adaptive import scale_by_entry_rms
from muon_optax import NewtonSchulz

TITLE = "AdaMuon"
START = Settings(rate=0.03)


class PolarOfSigns:
    """The polar factor of the momentum's signs."""

    def polar(self, x):
        return NewtonSchulz().polar(jnp.sign(x))


def matrices(s, dims):
    scale = scale_by_entry_rms(dims=dims)
    return muon(s, dims, PolarOfSigns(), scale, shape_scaling="adam_rms", nesterov=False)
