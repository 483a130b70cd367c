"""Muon with a second moment of every entry: AdaMuon, arXiv 2507.11005, without its signs."""

from benchmarks.track.entry import Settings, muon
from benchmarks.track.variants.adaptive import scale_by_entry_rms

TITLE = "AdaMuon without signs"
START = Settings(rate=0.03)


def matrices(s, dims):
    return muon(s, dims, "jordan", scale_by_entry_rms(dims=dims))
