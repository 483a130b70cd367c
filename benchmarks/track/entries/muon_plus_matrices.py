"""Muon whose update is normalized after the polar step: Muon+, arXiv 2602.21545."""

from benchmarks.track.entry import Settings, muon
from benchmarks.track.variants.renormalized import renormalize_updates

TITLE = "Muon+ of matrices"
START = Settings(rate=0.03)


def matrices(s, dims):
    return muon(s, dims, "jordan", renormalize_updates(dims=dims))
