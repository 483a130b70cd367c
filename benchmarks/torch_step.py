"""PyTorch's Muon on the same tree: `torch.optim.Muon` for matrices, AdamW for the rest."""

from collections.abc import Callable

import jax
import numpy as np
import torch

from benchmarks.optimizers import RATE
from muon_optax import FLAX, dims


def torch_muon(grads: dict) -> tuple[dict, Callable[[], None]]:
    """Where it runs, and one step of both: on the GPU where PyTorch has one, waited for."""
    device = "cuda" if torch.cuda.is_available() else "cpu"
    views = dims.resolve(FLAX, grads)
    matrices, rest = [], []
    for view, grad in zip(views, jax.tree.leaves(grads)):
        value = torch.tensor(np.asarray(grad), device=device)
        parameter = torch.nn.Parameter(value.clone())
        parameter.grad = value
        (rest if view is None else matrices).append(parameter)
    optimizers = [torch.optim.Muon(matrices, lr=RATE, weight_decay=0.0)]
    optimizers += [torch.optim.AdamW(rest, lr=RATE, weight_decay=0.0)] if rest else []

    def step() -> None:
        for optimizer in optimizers:
            optimizer.step()
        if device == "cuda":
            torch.cuda.synchronize()

    return {"device": device, "threads": torch.get_num_threads()}, step
