"""Muon on the sphere of the initial norm, without decay: MuonH, arXiv 2606.16899."""

import optax

from benchmarks.track.entry import Settings
from benchmarks.track.variants.hyperball import step_on_sphere
from muon_optax import scale_by_muon

TITLE = "MuonH"
START = Settings(rate=0.03)


def matrices(s, dims):
    return optax.chain(
        scale_by_muon(beta=s.momentum, dims=dims), step_on_sphere(s.rate, dims=dims)
    )
