"""Fine-tuning by factors of low rank, next to matrices that stay as they are.

Rank and α are those of arXiv 2605.10468, https://arxiv.org/abs/2605.10468, where Muon trains
both factors with the rate of `adam_rms`.
"""

from dataclasses import replace
from typing import Any

import jax
import jax.numpy as jnp

from benchmarks.track import finetuning
from benchmarks.track.entry import Settings
from benchmarks.track.task import Task

RANK, ALPHA = 8, 16


def make(large: bool = False) -> Task:
    """The task, or the larger one of an accelerator."""
    full = finetuning.make(large)

    def begin(seed: int) -> tuple[Any, Any]:
        base, _ = full.init(seed)
        return factors(base, jax.random.key(seed)), base

    return replace(
        full,
        name="lora",
        title=f"Fine-tuning on prose by LoRA of rank {RANK}",
        target=1.5 if large else 2.3,
        init=begin,
        loss=lambda params, base, tokens: full.loss(merge(base, params), (), tokens),
        start=Settings(2.0, 1.0, 1.0, 1.0),
        entries=("adamw", "sgd", "muon", "muon_again", "adam_rms", "svd"),
    )


def factors(base: dict[str, Any], key: jax.Array) -> dict[str, Any]:
    """For every matrix of a block, `lora_a` at random and `lora_b` of zeros."""
    found = {}
    for name, block in base.items():
        if name.startswith("block_"):
            found[name] = {}
            for layer, leaf in block.items():
                key, own = jax.random.split(key)
                fan_in, fan_out = leaf["kernel"].shape
                a = jax.random.normal(own, (fan_in, RANK)) * fan_in**-0.5
                found[name][layer] = {"lora_a": a, "lora_b": jnp.zeros((RANK, fan_out))}
    return found


def merge(base: dict[str, Any], added: dict[str, Any]) -> dict[str, Any]:
    """The model whose matrices are `W + α / rank · A B`."""

    def sum_of(leaf: dict[str, Any], pair: dict[str, Any]) -> dict[str, Any]:
        return {"kernel": leaf["kernel"] + ALPHA / RANK * pair["lora_a"] @ pair["lora_b"]}

    blocks = {
        name: {layer: sum_of(base[name][layer], pair) for layer, pair in block.items()}
        for name, block in added.items()
    }
    return base | blocks
