"""Muon with 4 of Jordan's steps."""

from benchmarks.track.entry import Settings, muon

TITLE = "Muon (Jordan, q = 4)"
START = Settings(rate=0.03)


def matrices(s, dims):
    return muon(s, dims, "jordan:4")
