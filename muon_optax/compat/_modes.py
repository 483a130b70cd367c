"""Settings that make `muon` equal to the Muon of another library.

A mode is a dict of keyword arguments: `muon(0.02, **MODES["keller"])`. To change one, write
`muon(0.02, **(MODES["torch"] | {"weight_decay": 0.0}))`. Its `"method"` rounds as the original
does; for more accuracy, replace it by `NewtonSchulz(...)`.

A mode sets everything for the matrices except the learning rate. It sets a learning rate for
Adam only if the original has one. It does not set `dims`.
"""

from typing import Any

from muon_optax._checks import Choices
from muon_optax.compat._rounded import RoundedNewtonSchulz

_MODES: dict[str, dict[str, Any]] = {
    # https://github.com/pytorch/pytorch/blob/v2.13.0/torch/optim/_muon.py: torch.optim.Muon.
    # Its adjust_lr_fn="original" is shape_scaling="jordan"; "match_rms_adamw" is "adam_rms".
    # It trains only two-dimensional parameters and has no Adam, so `muon` adds its fallback.
    "torch": {
        "method": RoundedNewtonSchulz("torch"),
        "beta": 0.95,
        "nesterov": True,
        "bias_correction": False,
        "heavy_ball": False,
        "weight_decay": 0.1,
        "shape_scaling": "jordan",
    },
    # https://github.com/KellerJordan/Muon/blob/857d1adc159e098212f828d927460782d3da59e9/muon.py:
    # Muon, and the Adam of MuonWithAuxAdam. Two things differ. The original multiplies by the
    # shape factor in bfloat16, this package in float32. For a convolution OIHW the original's
    # shape factor is √max(1, H/W), here it is √max(1, O/(I·H·W)).
    "keller": {
        "method": RoundedNewtonSchulz("keller"),
        "beta": 0.95,
        "nesterov": True,
        "bias_correction": False,
        "heavy_ball": False,
        "weight_decay": 0.0,
        "shape_scaling": "jordan",
        "adam_learning_rate": 3e-4,
        "adam_b1": 0.9,
        "adam_b2": 0.95,
        "adam_eps": 1e-10,
        "adam_weight_decay": 0.0,
    },
    # https://github.com/MoonshotAI/Moonlight/blob/c2ad5b20c605086526a179d36901bfc41b52b44b/
    # examples/toy_train.py: Muon. Its Newton-Schulz is Keller Jordan's under torch.compile,
    # which may skip roundings between fused operations. It does not train convolutions. Its
    # Adam has the learning rate and the decay of the matrices, and adds ε to √v before the bias
    # correction of v. Optax adds ε after it, so ε/√(1 - β₂^t) in Optax equals the original's ε.
    "moonlight": {
        "method": RoundedNewtonSchulz("keller"),
        "beta": 0.95,
        "nesterov": True,
        "bias_correction": False,
        "heavy_ball": True,
        "weight_decay": 0.1,
        "shape_scaling": "adam_rms",
        "adam_b1": 0.9,
        "adam_b2": 0.95,
        "adam_eps": 1e-8,
        "adam_weight_decay": 0.1,
    },
}

MODES: dict[str, dict[str, Any]] = Choices(_MODES)
