"""Muon with a second moment of every entry: AdaMuon, arXiv 2507.11005."""

from benchmarks.track.entry import Settings, muon
from muon_optax import scale_by_entry_rms

TITLE = "AdaMuon"
START = Settings(rate=0.03)


def matrices(s, dims):
    return muon(s, dims, "jordan", scale_by_entry_rms(dims=dims))
