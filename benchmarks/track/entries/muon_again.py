"""Muon once more, searched from another start: how far luck of the search goes."""

from benchmarks.track.entry import Settings, muon

TITLE = "Muon again, other search"
START = Settings(rate=0.035, rest_rate=0.025, decay=0.1, momentum=0.88)


def matrices(s, dims):
    return muon(s, dims)
