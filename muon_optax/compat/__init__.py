"""Compatibility with other implementations of Muon: arguments, numbers, states.

- To replace `optax.contrib.muon`: `muon`, `scale_by_muon`, `scale_by_shape`.
- The settings of other libraries: `MODES`, with `RoundedNewtonSchulz`.
- To continue a run with another optimizer: `transfer`, `from_torch`, `kernel_layout`.
- Checkpoints without a template: `to_checkpoint`, `from_checkpoint`.

>>> from muon_optax import compat, muon
>>> tx = muon(0.02, **compat.MODES["keller"])
"""

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

__all__ = [
    "MODES",
    "RoundedNewtonSchulz",
    "from_checkpoint",
    "from_torch",
    "kernel_layout",
    "muon",
    "scale_by_muon",
    "scale_by_shape",
    "to_checkpoint",
    "transfer",
]
