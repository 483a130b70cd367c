"""The shapes that are measured: matrices of real models, and trees of parameters."""

from collections.abc import Callable

import jax
import jax.numpy as jnp

# The weight matrices of a model that Muon trains, embeddings and heads apart: sides → how many.
MODELS: dict[str, dict[tuple[int, int], int]] = {
    "GPT-2 small": {(768, 768): 48, (768, 3072): 24},
    "ViT-B/16": {(768, 768): 49, (768, 3072): 24},  # the patches' projection is one more
    "GPT-2 small, query, key and value by head": {
        (64, 768): 432,
        (768, 768): 12,
        (768, 3072): 24,
    },
    "conv net, 6 layers": {
        (27, 64): 1,
        (64, 576): 1,
        (128, 576): 1,
        (128, 1152): 1,
        (256, 1152): 1,
        (256, 2304): 1,
    },
    "GPT-2 XL": {(1600, 1600): 192, (1600, 6400): 96},
    "Llama 7B": {(4096, 4096): 128, (4096, 11008): 96},
}


def transformer(layers: int, width: int, vocabulary: int = 0) -> dict:
    """Nine leaves a layer: four square matrices, one wide, one tall, three vectors."""
    sides = {name: (width, width) for name in ("query", "key", "value", "out")}
    sides |= {"up": (width, 4 * width), "down": (4 * width, width)}
    layer = {name: {"kernel": _float32(*shape)} for name, shape in sides.items()}
    layer |= {f"norm{i}": {"scale": _float32(width)} for i in range(3)}
    tree = {f"layer{i}": layer for i in range(layers)}
    return tree | ({"tokens": {"embedding": _float32(vocabulary, width)}} if vocabulary else {})


def stack(count: int, m: int, n: int) -> dict:
    """As many separate matrices of one shape."""
    return {f"layer{i}": {"kernel": _float32(m, n)} for i in range(count)}


def _float32(*shape: int) -> jax.ShapeDtypeStruct:
    return jax.ShapeDtypeStruct(shape, jnp.float32)


def distinct() -> dict[tuple[int, int], int]:
    """Every shape of `MODELS`, and how many of it the model with the most has."""
    counts: dict[tuple[int, int], int] = {}
    for shapes in MODELS.values():
        for shape, count in shapes.items():
            counts[shape] = max(count, counts.get(shape, 0))
    return counts


TREES: dict[str, Callable[[], dict]] = {
    "GPT-2 small: 12 layers, width 768": lambda: transformer(12, 768, vocabulary=50257),
    "12 layers, width 256": lambda: transformer(12, 256),
    "32 × (512×2048)": lambda: stack(32, 512, 2048),
    "144 leaves: 16 layers, width 256": lambda: transformer(16, 256),
    "576 leaves: 64 layers, width 64": lambda: transformer(64, 64),
}
