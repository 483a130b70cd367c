"""Muon with five of Jordan's steps, as `muon` has it by default."""

from benchmarks.track.entry import Settings, muon

TITLE = "Muon (Jordan, q = 5)"
START = Settings(rate=0.03)


def matrices(s, dims):
    return muon(s, dims)
