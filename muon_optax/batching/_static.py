"""Polar methods as static arguments of `jax.jit`: equal methods share a compiled program."""

from typing import Any

from muon_optax.polar._method import PolarMethod


class StaticMethod:
    """A polar method that is compared by value, or by identity if it cannot be hashed."""

    def __init__(self, method: PolarMethod):
        self.method = method
        try:
            self._hash, self._by_value = hash(method), True
        except TypeError:  # a dataclass that is not frozen, or one with a list in it
            self._hash, self._by_value = id(method), False

    def __hash__(self) -> int:
        return self._hash

    def __eq__(self, other: Any) -> bool:
        if not isinstance(other, StaticMethod):
            return NotImplemented
        if self.method is other.method:
            return True
        return self._by_value and other._by_value and self.method == other.method
