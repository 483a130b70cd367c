"""Muon with three steps of the paper's polynomial of degree 3."""

from benchmarks.track.entry import Settings, muon

TITLE = "Muon (Taylor, degree 3, q = 3)"
START = Settings(rate=0.07)


def matrices(s, dims):
    return muon(s, dims, "taylor1:3")
