"""Muon with the preset of fewest products."""

from benchmarks.track.entry import Settings, muon

TITLE = "Muon (fast)"
START = Settings(rate=0.03)


def matrices(s, dims):
    return muon(s, dims, "fast")
