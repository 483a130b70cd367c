"""Muon+ as its authors have it: outputs, then inputs, to one norm; arXiv 2602.21545."""

from benchmarks.track.entry import Settings, muon
from muon_optax import normalize_sides

TITLE = "Muon+"
START = Settings(rate=0.03)


def matrices(s, dims):
    return muon(s, dims, "jordan", normalize_sides(dims=dims))
