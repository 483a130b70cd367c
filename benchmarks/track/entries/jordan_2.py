"""Muon with 2 of Jordan's steps."""

from benchmarks.track.entry import Settings, muon

TITLE = "Muon (Jordan, q = 2)"
START = Settings(rate=0.045)


def matrices(s, dims):
    return muon(s, dims, "jordan:2")
