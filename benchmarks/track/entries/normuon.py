"""Muon with a second moment of every neuron, arXiv 2510.05491."""

from benchmarks.track.entry import Settings, muon
from muon_optax import scale_by_neuron_rms

TITLE = "NorMuon"
START = Settings(rate=0.03)


def matrices(s, dims):
    return muon(s, dims, "jordan", scale_by_neuron_rms(dims=dims))
