"""Paths that differ only in their numbers, written as one path: `layers_{0..11}/kernel`.

>>> range_of_paths(["layers_0/kernel", "layers_1/kernel", "layers_2/kernel"])
'layers_{0..2}/kernel'
"""

import math
import re
from collections.abc import Callable, Collection, Sequence


def without_numbers(path: str) -> str:
    """Replace every number in a path by `#`, so that the paths of equal layers are equal."""
    return re.sub(r"\d+", "#", path)


def numbers_of(path: str) -> list[int]:
    """Return the numbers in a path, in order."""
    return [int(number) for number in re.findall(r"\d+", path)]


def range_of_paths(paths: Sequence[str]) -> str:
    """Write paths that differ only in their numbers as one, such as `layers/{0..3}/kernel`."""
    return replace_numbers(paths, _format_range)


def replace_numbers(
    paths: Sequence[str],
    write: Callable[[Sequence[str]], str],
    escape: Callable[[str], str] = str,
) -> str:
    """Return the first path, with each number replaced by `write(numbers)`.

    `numbers` are the distinct numbers of all paths at the same position. `escape` is applied to
    the text between the numbers.
    """
    pieces = re.split(r"(\d+)", paths[0])  # text and numbers alternate
    pieces[::2] = map(escape, pieces[::2])
    pieces[1::2] = map(write, distinct_numbers(paths))
    return "".join(pieces)


def is_full_range(paths: Collection[str]) -> bool:
    """Return whether the paths contain every combination of their numbers."""
    return math.prod(len(numbers) for numbers in distinct_numbers(paths)) == len(paths)


def distinct_numbers(paths: Collection[str]) -> list[list[str]]:
    """Return the sorted numbers at each position of paths that differ only in their numbers."""
    numbers = zip(*(re.findall(r"\d+", path) for path in paths))
    return [sorted(set(column), key=int) for column in numbers]


def _format_range(numbers: Sequence[str]) -> str:
    if len(numbers) == 1:
        return numbers[0]
    consecutive = int(numbers[-1]) - int(numbers[0]) + 1 == len(numbers)
    span = f"{numbers[0]}..{numbers[-1]}" if consecutive else ",".join(numbers)
    return f"{{{span}}}"
