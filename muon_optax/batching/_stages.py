"""The stages of a device's work: one stage can travel while another stage is multiplied.

Each large matrix of a device is a stage. Small matrices of several layouts share a stage, and
can share products.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

from muon_optax._platform import Platform
from muon_optax.batching._collectives import Exchange
from muon_optax.batching._grid import DeviceGrid
from muon_optax.batching._ownership import Group, Ownership

# The fewest entries per device in a stage. For fewer, collectives are not worthwhile.
_STAGE_SIZE: dict[Platform, int] = {"cpu": 2**21, "gpu": 2**23, "tpu": 2**19}
_NUM_STAGES = 8  # for a large model; the first and the last exchange cannot be hidden


@dataclass(frozen=True)
class Part:
    """Consecutive matrices of a group, from index `start` on, with one exchange."""

    group: int
    start: int
    exchange: Exchange

    @property
    def stop(self) -> int:
        """The index after the last matrix."""
        return self.start + self.exchange.ownership.count

    @property
    def size(self) -> int:
        """The number of matrix entries on one device."""
        m, n = self.exchange.layout.sides
        return self.exchange.ownership.per_owner * m * n // self.exchange.team.size


def make_stages(
    groups: Sequence[Group],
    found: Sequence[Sequence[Ownership]],
    grid: DeviceGrid,
    platform: Platform,
) -> list[list[Part]]:
    """Divide groups into stages of about equal size. `found` has each group's ownerships."""
    parts = []
    for index, (group, ownerships) in enumerate(zip(groups, found)):
        start = 0
        for ownership in ownerships:
            parts.append(Part(index, start, Exchange(group.layout, ownership, grid)))
            start = parts[-1].stop
    limit = max(_STAGE_SIZE[platform], sum(part.size for part in parts) // _NUM_STAGES)
    stages, used = [], limit
    for part in [piece for whole in parts for piece in _split(whole, limit)]:
        if used + part.size > limit:
            stages.append([])
            used = 0
        stages[-1].append(part)
        used += part.size
    return stages


def _split(part: Part, limit: int) -> list[Part]:
    """Split a part into parts of at most `limit` entries, if all owners have equally many."""
    ownership = part.exchange.ownership
    owners = part.exchange.owners.size
    each = math.ceil(ownership.per_owner / math.ceil(part.size / limit))
    if each == ownership.per_owner or ownership.count < owners * ownership.per_owner:
        return [part]
    pieces = []
    for first in range(0, ownership.per_owner, each):
        per_owner = min(each, ownership.per_owner - first)
        own = replace(ownership, count=owners * per_owner, per_owner=per_owner)
        exchange = replace(part.exchange, ownership=own)
        pieces.append(Part(part.group, part.start + first * owners, exchange))
    return pieces
