"""Knows the settings under which `muon` is another library's Muon.

A mode is keyword arguments, `muon(0.02, **MODES["keller"])`; to change one of them write
`muon(0.02, **(MODES["torch"] | {"weight_decay": 0.0}))`. Its `"method"` rounds as the original
does; for accuracy put a `NewtonSchulz(...)` in its place.

What a mode does not say stays ours. Learning rates are never part of one, but for an Adam whose
rate is not Muon's. Layout is that of `dims`, by default Flax's `[in, out]`.
"""

from typing import Any

from muon_optax.compat._rounded import RoundedNewtonSchulz

MODES: dict[str, dict[str, Any]] = {
    # https://github.com/pytorch/pytorch/blob/v2.13.0/torch/optim/_muon.py: torch.optim.Muon.
    # Its adjust_lr_fn="original" is shape_scaling="jordan"; "match_rms_adamw" is "adam_rms".
    # It trains two-dimensional parameters only and has no Adam: what the fallback does is ours.
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
    # Muon, and the Adam of MuonWithAuxAdam. Two things are not followed. The shape's factor is
    # multiplied in bfloat16 there, in float32 here. And a convolution OIHW gets the factor of
    # its kernel there, √max(1, H/W), which is 1 for square ones; here that of its matrix,
    # √max(1, O/(I·H·W)): they differ where O > I·H·W.
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
    # examples/toy_train.py: Muon. Its Newton-Schulz is Keller Jordan's, under torch.compile,
    # which may leave out roundings between fused operations. It takes no convolutions. Its Adam
    # has the learning rate and the decay of the matrices, and adds ε to √v before v's bias
    # correction, we after it: theirs is ε/√(1 - β₂^t) in our terms.
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
