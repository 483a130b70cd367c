"""Models of machines: how long a collective and a product take.

Collectives take the time of their bytes at full bandwidth on the busiest links; latency, about
1 µs for each hop, is left out. The formulas are those of https://jax-ml.github.io/scaling-book.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import NamedTuple, Protocol

import numpy as np

from benchmarks.hlo import RECEIVED, Collective


class Machine(Protocol):
    """What is simulated.

    Attributes:
      flops: That matrix products of bfloat16 sustain.
    """

    flops: float

    def seconds(self, moved: Collective, torus: Mapping[str, tuple[int, ...]]) -> float:
        """Of a collective that all devices take part in, in groups like the one that it names.

        Devices are numbered along the mesh's axes, the last the fastest, and along the sides
        that these have of a torus.
        """


@dataclass(frozen=True)
class Nodes:
    """Nodes of GPUs: fast links inside, slower ones between; bytes per second of one GPU.

    A collective takes the larger of its time inside a node and between nodes.
    """

    flops: float = 790e12  # assumed: 0.8 of the peak of 989
    size: int = 8
    inside: float = 450e9
    between: float = 50e9  # 8 × 400 Gb/s of a node, shared by its GPUs

    def seconds(self, moved: Collective, torus: Mapping[str, tuple[int, ...]]) -> float:
        """Consecutive devices share a node."""
        del torus
        node = np.array(moved.group) // self.size
        near, nodes = int((node == node[0]).sum()), len(set(node))
        inside = moved.received / self.inside if near > 1 else 0.0
        if moved.kind == "all-to-all":
            crossing = moved.bytes * (nodes - 1) / nodes
        else:  # the node's GPUs of this group share what has to come in
            crossing = moved.bytes * RECEIVED[moved.kind](nodes) / near
        return max(inside, moved.times * crossing / self.between)


class _Way(NamedTuple):
    """Along one side of a torus.

    Attributes:
      devices: Of a group, with different positions.
      links: Of a device in this direction and back.
      groups: That share these links, as their devices alternate.
    """

    devices: int
    links: int
    groups: float


@dataclass(frozen=True)
class Torus:
    """TPUs on a torus; bytes per second of one link in one direction."""

    flops: float = 367e12  # assumed: 0.8 of the peak of 459
    link: float = 90e9
    around: int = 4  # the shortest side whose ends are linked

    def seconds(self, moved: Collective, torus: Mapping[str, tuple[int, ...]]) -> float:
        """All-to-all waits for the middle of the longest way, others for a device's links."""
        sides = sum(torus.values(), ())
        ways = [
            way
            for side, at in zip(sides, np.unravel_index(moved.group, sides))
            if (way := self._way(sorted(set(at.tolist())), side)).devices > 1
        ]
        local = moved.received / (self.link * sum(way.links / way.groups for way in ways))
        if moved.kind != "all-to-all":
            return local
        middle = max(moved.bytes * way.devices * way.groups / (4 * way.links) for way in ways)
        return max(local, moved.times * middle / self.link)

    def _way(self, at: Sequence[int], side: int) -> _Way:
        """Of a group with these positions along a side."""
        gaps = [after - before for before, after in pairwise(at)]
        length = (
            at[-1] - at[0] + max(gaps, default=1)
        )  # until where the next group like it begins
        links = 2 if length == side >= self.around else 1
        return _Way(len(at), links, length / len(at))


MACHINES: dict[str, Machine] = {"H200": Nodes(), "TPU v5p": Torus()}
# Of the targets that programs are compiled for; a v5e is linked around from 16 on.
WIRES: dict[str, Machine] = {
    "v5e": Torus(flops=158e12, link=45e9, around=16),
    "v5p": MACHINES["TPU v5p"],
    "h100": MACHINES["H200"],  # their links are the same
}
