"""Measures of updates, one number per matrix; call them directly or record them in training."""

from muon_optax._history import History as History
from muon_optax._measures import MEASURES as MEASURES
from muon_optax._measures import alignment as alignment
from muon_optax._measures import cosine as cosine
from muon_optax._measures import operator_norm as operator_norm
from muon_optax._measures import orthogonality_error as orthogonality_error
from muon_optax._measures import polar_error as polar_error
from muon_optax._measures import root_mean_square as root_mean_square
from muon_optax._measures import stable_rank as stable_rank
from muon_optax._readers import flat as flat
from muon_optax._readers import latest as latest
from muon_optax._readers import momentum as momentum
from muon_optax._spectra import spectra as spectra
from muon_optax.transforms._record import RecordState as RecordState
from muon_optax.transforms._record import record_updates as record_updates

__all__ = [
    "MEASURES",
    "History",
    "RecordState",
    "alignment",
    "cosine",
    "flat",
    "latest",
    "momentum",
    "operator_norm",
    "orthogonality_error",
    "polar_error",
    "record_updates",
    "root_mean_square",
    "spectra",
    "stable_rank",
]
