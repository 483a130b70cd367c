"""Muon with five steps of the paper's polynomial of degree 9."""

from benchmarks.track.entry import Settings, muon

TITLE = "Muon (Taylor, degree 9, q = 5)"
START = Settings(rate=0.03)


def matrices(s, dims):
    return muon(s, dims, "taylor4:5")
