"""The devices that exchange with each other, from a collective's line of HLO.

XLA prints groups in three ways. Of eight devices all of these say that 0, 2, 4 and 6 are one:

    replica_groups={{0,2,4,6},{1,3,5,7}}
    replica_groups=[2,4]<=[4,2]T(1,0)
    replica_groups=mesh['a'=4,'b'=2] {'a'}
"""

import math
import re

import numpy as np

_LISTED = re.compile(r"replica_groups=\{\{([\d,]+)\}")
_IOTA = re.compile(r"replica_groups=\[([\d,]+)\]<=(\S+?\](?:T\([\d,]+\))?)")
_MESH = re.compile(r"replica_groups=mesh\[([^\]]*)\](?:, device_ids=\((\S+?)\))? \{([^}]*)\}")
_AXIS = re.compile(r"('[^']*')(?::\((\d+)\)(\d+))?")  # 'a', or a part of it, 'a':(1)2
_PAIRS = re.compile(r"source_target_pairs=\{((?:\{\d+,\d+\},?)*)\}")


def group(line: str, everyone: int) -> tuple[int, ...]:
    """The first group that a collective names; all devices if it names none.

    Args:
      line: An instruction. Of a permutation the group is the first pair of different devices.
      everyone: The number of devices of the program.
    """
    if found := _PAIRS.search(line):
        pairs = re.findall(r"(\d+),(\d+)", found[1])
        return next(((int(a), int(b)) for a, b in pairs if a != b), (0,))
    if found := _LISTED.search(line):
        return tuple(_numbers(found[1]))
    if found := _IOTA.search(line):
        return tuple(_iota(found[2]).reshape(_numbers(found[1]))[0].tolist())
    if found := _MESH.search(line):
        return _along(found[1], found[2], found[3])
    return tuple(range(everyone))


def _iota(text: str) -> np.ndarray:
    """`[4,2]T(1,0)`: the numbers 0 to 7 as an array of these sides, then transposed."""
    sides, _, order = text.partition("T")
    sides = _numbers(sides)
    numbers = np.arange(math.prod(sides)).reshape(sides)
    return numbers.transpose(_numbers(order)) if order else numbers


def _along(mesh: str, devices: str | None, axes: str) -> tuple[int, ...]:
    """The devices along some axes, or parts of these, of a mesh."""
    sizes = {name: int(size) for name, size in re.findall(r"('[^']*')=(\d+)", mesh)}
    numbers = _iota(devices) if devices else np.arange(math.prod(sizes.values()))
    positions = {name: [0] for name in sizes}
    for name, slower, part in _AXIS.findall(axes):
        size = int(part or sizes[name])
        step = sizes[name] // (int(slower or 1) * size)
        positions[name] = [first + step * i for first in positions[name] for i in range(size)]
    return tuple(
        numbers.reshape([*sizes.values()])[np.ix_(*positions.values())].ravel().tolist()
    )


def _numbers(text: str) -> list[int]:
    return [int(number) for number in re.findall(r"\d+", text)]
