"""Muon by the operator norm between root mean squares."""

from benchmarks.track.entry import Settings, muon

TITLE = "Muon, rms_to_rms scale"
START = Settings(rate=0.03)


def matrices(s, dims):
    return muon(s, dims, shape_scaling="rms_to_rms")
