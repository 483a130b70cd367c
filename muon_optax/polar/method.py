"""Knows what a polar method is: any hashable object with `.polar(x)`."""

from typing import Any, Protocol

from jax import Array


class PolarMethod(Protocol):
    """Anything hashable that can orthogonalize: `polar(x)`, of x's shape and dtype."""

    def polar(self, x: Array, /) -> Array:
        """The polar factor, exact or not, of every matrix of `x: [..., m, n]`."""
        ...


def check_method(method: Any) -> None:
    """Refuse what is no polar method: a name, a family, a class.

    Args:
      method: What was passed.

    Raises:
      ValueError: If it is not an object with `.polar`.
    """
    if isinstance(method, type) or not callable(getattr(method, "polar", None)):
        raise ValueError(
            f"method={method!r:.80}; use NewtonSchulz(), NewtonSchulz('polar_express', 8), "
            "SVD(), one of METHODS, such as METHODS['fast'], or an object with .polar"
        )
