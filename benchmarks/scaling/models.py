"""The models and meshes that are simulated, without embeddings and heads."""

import math
from dataclasses import dataclass

from jax.sharding import PartitionSpec as P

from benchmarks.sharding.layouts import Layout, gpt_sides, matrices


def _llama(width: int, key_value: int, hidden: int) -> dict[str, tuple[int, int]]:
    """The matrices of one layer, `[in, out]`."""
    sides = dict.fromkeys(("query", "out"), (width, width))
    sides |= dict.fromkeys(("key", "value"), (width, key_value))
    sides |= dict.fromkeys(("gate", "up"), (width, hidden))
    return sides | {"down": (hidden, width)}


# Layers, and the matrices of each.
MODELS = {
    "GPT-2 XL": (48, gpt_sides(1600)),
    "Llama 7B": (32, _llama(4096, 4096, 11008)),
    "Llama 70B": (80, _llama(8192, 1024, 28672)),
    "one 4096×11008": (1, {"up": (4096, 11008)}),
}


@dataclass(frozen=True)
class Case:
    """A model on a mesh.

    Attributes:
      model: A key of `MODELS`.
      torus: Mesh axis → the sides of its part of a TPU's torus, the slowest axis first. One
        called `data` has replicas; `fsdp` cuts the second axis of `[layers, in, out]`.
    """

    model: str
    torus: dict[str, tuple[int, ...]]

    @property
    def mesh(self) -> dict[str, int]:
        """Axis → size."""
        return {name: math.prod(sides) for name, sides in self.torus.items()}

    @property
    def sides(self) -> list[tuple[int, int]]:
        """Of every matrix, `(in, out)`."""
        layers, sides = MODELS[self.model]
        return [*sides.values()] * layers

    @property
    def layout(self) -> Layout:
        """For the library and for XLA."""
        spec = P(None, "fsdp") if "fsdp" in self.torus else P()
        return Layout(self.mesh, spec, matrices(*MODELS[self.model], stacked=True))

    def __str__(self) -> str:
        parts = [f"{'DDP' if n == 'data' else 'FSDP'} {size}" for n, size in self.mesh.items()]
        return f"{self.model}, {' × '.join(parts)}"


CASES = [
    Case("one 4096×11008", {"fsdp": (2, 2, 2)}),
    Case("GPT-2 XL", {"data": (2, 2, 2)}),
    Case("GPT-2 XL", {"fsdp": (2, 2, 2)}),
    Case("Llama 7B", {"fsdp": (4, 4, 4)}),
    Case("Llama 70B", {"fsdp": (4, 4, 4)}),
    Case("Llama 70B", {"fsdp": (8, 8, 16)}),
    Case("Llama 70B", {"data": (16,), "fsdp": (8, 8)}),
    Case("Llama 70B", {"data": (8, 16), "fsdp": (8,)}),
]
