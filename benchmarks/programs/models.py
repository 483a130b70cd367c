"""The trees of parameters whose update is compiled, a leaf for each matrix or all layers."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp


@dataclass(frozen=True)
class Model:
    """A tree of float32 parameters, whose names the rules `FLAX` know.

    Attributes:
      params: Their shapes.
      sides: Of every matrix, `(in, out)`.
    """

    params: dict[str, Any]
    sides: tuple[tuple[int, int], ...]

    @property
    def smallest(self) -> int:
        """The entries of the smallest matrix."""
        return min(m * n for m, n in self.sides)

    @property
    def size(self) -> int:
        """The number of parameters."""
        return sum(x.size for x in jax.tree.leaves(self.params))


def _gpt_sides(width: int) -> dict[str, tuple[int, int]]:
    """Query, key and value as one matrix, output, and both of the feed-forward part."""
    sides = {"q": (width, 3 * width), "o": (width, width)}
    return sides | {"fc": (width, 4 * width), "pr": (4 * width, width)}


def _llama_sides(width: int, hidden: int) -> dict[str, tuple[int, int]]:
    squares = dict.fromkeys(("query", "key", "value", "out"), (width, width))
    return squares | {"gate": (width, hidden), "up": (width, hidden), "down": (hidden, width)}


def _apart(layers: int, sides: dict[str, tuple[int, int]]) -> Model:
    """A leaf for each matrix of each layer, and a norm."""
    layer = {name: {"kernel": _float32(*side)} for name, side in sides.items()}
    layer |= {"ln": {"scale": _float32(next(iter(sides.values()))[0])}}
    return Model({f"l{i}": layer for i in range(layers)}, tuple(sides.values()) * layers)


def _stacked(layers: int, sides: dict[str, tuple[int, int]]) -> Model:
    """A leaf for all layers, as a scan over them has it."""
    tree = {name: {"kernel": _float32(layers, *side)} for name, side in sides.items()}
    tree |= {"ln": {"scale": _float32(layers, next(iter(sides.values()))[0])}}
    return Model(tree, tuple(sides.values()) * layers)


def _float32(*shape: int) -> jax.ShapeDtypeStruct:
    return jax.ShapeDtypeStruct(shape, jnp.float32)


MODELS: dict[str, Callable[[], Model]] = {
    "768x2": lambda: _apart(2, _gpt_sides(768)),
    "2048x2": lambda: _apart(2, _gpt_sides(2048)),
    "768x12": lambda: _apart(12, _gpt_sides(768)),
    "768x12-stacked": lambda: _stacked(12, _gpt_sides(768)),
    "llama7b-layer": lambda: _apart(1, _llama_sides(4096, 11008)),
    "256x2": lambda: _apart(2, _gpt_sides(256)),
}
