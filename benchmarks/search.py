"""The search for a learning rate: double and halve it until neither helps."""

import math
from collections.abc import Callable


def best_power(loss: Callable[[int], float]) -> tuple[int, list[int]]:
    """The k at which `loss(k)` is lowest, between two worse ones; and every k tried, sorted.

    The search starts at 0 and 1; what is not finite counts as infinite.
    """
    tried: dict[int, float] = {}

    def at(k: int) -> float:
        if k not in tried:
            value = loss(k)
            tried[k] = value if math.isfinite(value) else math.inf
        return tried[k]

    best = min((0, 1), key=at)
    while best != (lower := min((best, best - 1, best + 1), key=at)):
        best = lower
    return best, sorted(tried)
