"""Muon with the exact polar factor."""

from benchmarks.track.entry import Settings, muon
from muon_optax import SVD

TITLE = "Muon (SVD)"
START = Settings(rate=0.03)


def matrices(s, dims):
    return muon(s, dims, SVD())
