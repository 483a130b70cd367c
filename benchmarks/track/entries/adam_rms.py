"""Muon whose update has the root mean square of AdamW's."""

from benchmarks.track.entry import Settings, muon

TITLE = "Muon, adam_rms scale"
START = Settings(rate=0.015)


def matrices(s, dims):
    return muon(s, dims, shape_scaling="adam_rms")
