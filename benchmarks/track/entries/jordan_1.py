"""Muon with one of Jordan's steps."""

from benchmarks.track.entry import Settings, muon

TITLE = "Muon (Jordan, q = 1)"
START = Settings(rate=0.07)


def matrices(s, dims):
    return muon(s, dims, "jordan:1")
