"""Knows the way here from other Muons: their arguments, their numbers, their states."""

from muon_optax.compat._checkpoint import from_checkpoint as from_checkpoint
from muon_optax.compat._checkpoint import to_checkpoint as to_checkpoint
from muon_optax.compat._contrib import muon as muon
from muon_optax.compat._contrib import scale_by_muon as scale_by_muon
from muon_optax.compat._contrib import scale_by_shape as scale_by_shape
from muon_optax.compat._modes import MODES as MODES
from muon_optax.compat._rounded import RoundedNewtonSchulz as RoundedNewtonSchulz
from muon_optax.compat._torch_state import from_torch as from_torch
from muon_optax.compat._torch_state import kernel_layout as kernel_layout
from muon_optax.compat._transfer import transfer as transfer
