"""Knows how an update of Muon is judged: measures of matrices, and a record of a run."""

from muon_optax.diagnostics.measures import MEASURES as MEASURES
from muon_optax.diagnostics.measures import alignment as alignment
from muon_optax.diagnostics.measures import cosine as cosine
from muon_optax.diagnostics.measures import operator_norm as operator_norm
from muon_optax.diagnostics.measures import orthogonality_error as orthogonality_error
from muon_optax.diagnostics.measures import polar_error as polar_error
from muon_optax.diagnostics.measures import root_mean_square as root_mean_square
from muon_optax.diagnostics.measures import stable_rank as stable_rank
from muon_optax.diagnostics.record import RecordState as RecordState
from muon_optax.diagnostics.record import latest as latest
from muon_optax.diagnostics.record import record_muon as record_muon

__all__ = [
    "MEASURES",
    "RecordState",
    "alignment",
    "cosine",
    "latest",
    "operator_norm",
    "orthogonality_error",
    "polar_error",
    "record_muon",
    "root_mean_square",
    "stable_rank",
]
