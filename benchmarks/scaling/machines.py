"""Models of machines: how long a collective and a product take.

Collectives take the time of their bytes at full bandwidth on the busiest links; latency, about
1 µs for each hop, is left out. The formulas are those of https://jax-ml.github.io/scaling-book.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Protocol

import numpy as np

from benchmarks.hlo import RECEIVED
from benchmarks.sharding.formula import Move


class Machine(Protocol):
    """What is simulated.

    Attributes:
      flops: That matrix products of bfloat16 sustain.
    """

    flops: float

    def seconds(self, move: Move, torus: Mapping[str, tuple[int, ...]]) -> float:
        """Of one collective on a mesh whose axes have these parts of the machine."""


@dataclass(frozen=True)
class Nodes:
    """Nodes of GPUs: fast links inside, slower ones between; bytes per second of one GPU.

    A collective takes the larger of its time inside a node and between nodes.
    """

    flops: float = 790e12  # assumed: 0.8 of the peak of 989
    size: int = 8
    inside: float = 450e9
    between: float = 50e9  # 8 × 400 Gb/s of a node, shared by its GPUs

    def seconds(self, move: Move, torus: Mapping[str, tuple[int, ...]]) -> float:
        """Devices are numbered along the mesh's axes, the last the fastest."""
        sizes = {name: math.prod(sides) for name, sides in torus.items()}
        devices = np.arange(math.prod(sizes.values())).reshape(*sizes.values())
        group = devices[tuple(slice(None) if n in move.axes else 0 for n in sizes)].ravel()
        near = int((group < self.size).sum())  # in the node of device 0
        nodes = len(group) // near
        inside = move.received / self.inside if near > 1 else 0.0
        if move.kind == "all-to-all":
            crossing = move.bytes * (nodes - 1) / nodes
        else:  # the node's GPUs of this group share what has to come in
            crossing = move.bytes * RECEIVED[move.kind](nodes) / near
        return max(inside, crossing / self.between)


@dataclass(frozen=True)
class Torus:
    """TPUs on a torus; bytes per second of one link in one direction."""

    flops: float = 367e12  # assumed: 0.8 of the peak of 459
    link: float = 90e9
    around: int = 4  # the shortest side whose ends are linked

    def seconds(self, move: Move, torus: Mapping[str, tuple[int, ...]]) -> float:
        """All-to-all waits for the middle of the longest side, others for their own links."""
        sides = [side for name in move.axes for side in torus[name] if side > 1]
        links = {side: 2 if side >= self.around else 1 for side in sides}
        local = move.received / (self.link * sum(links[side] for side in sides))
        if move.kind != "all-to-all":
            return local
        middle = max(move.bytes * side / (4 * links[side]) for side in sides) / self.link
        return max(local, middle)


MACHINES: dict[str, Machine] = {"H200": Nodes(), "TPU v5p": Torus()}
# Of the targets that programs are compiled for; a v5e is linked around from 16 on.
WIRES: dict[str, Machine] = {
    "v5e": Torus(flops=158e12, link=45e9, around=16),
    "v5p": MACHINES["TPU v5p"],
    "h100": MACHINES["H200"],  # their links are the same
}
