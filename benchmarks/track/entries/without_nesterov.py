"""Muon without Nesterov's step."""

from benchmarks.track.entry import Settings, muon

TITLE = "Muon without Nesterov"
START = Settings(rate=0.03)


def matrices(s, dims):
    return muon(s, dims, nesterov=False)
