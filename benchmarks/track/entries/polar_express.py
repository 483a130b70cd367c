"""Muon with eight steps of Polar Express, arXiv 2505.16932."""

from benchmarks.track.entry import Settings, muon

TITLE = "Muon (Polar Express, q = 8)"
START = Settings(rate=0.03)


def matrices(s, dims):
    return muon(s, dims, "polar_express:8")
