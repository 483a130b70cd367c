"""Muon with a search from another start: how much depends on the luck of a search."""

from benchmarks.track.entry import Settings, muon

TITLE = "Muon, second search"
START = Settings(rate=0.035, rest_rate=0.025, decay=0.1, momentum=0.88)


def matrices(s, dims):
    return muon(s, dims)
