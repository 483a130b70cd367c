"""Knows the polar factor of a batch of matrices, and the methods at hand to find it.

For `x = U·diag(σ)·Vᴴ` the polar factor is `U·Vᴴ` over the nonzero σ. A polar method is any
hashable object with `.polar(x)`; it has no `__call__`, because `optax.inject_hyperparams`
takes every callable argument for a schedule.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from jax import Array

from muon_optax.batching._bucket import map_stacked
from muon_optax.coefficients import FAST
from muon_optax.polar._dual_norm import DualNorm as DualNorm
from muon_optax.polar._method import PolarMethod as PolarMethod
from muon_optax.polar._method import check_method as check_method
from muon_optax.polar._newton_schulz import NewtonSchulz
from muon_optax.polar._spread import cost as cost
from muon_optax.polar._spread import is_newton_schulz
from muon_optax.polar._spread import polar_in_teams as polar_in_teams
from muon_optax.polar._spread import wire_dtype as wire_dtype
from muon_optax.polar._svd import SVD

METHODS: dict[str, PolarMethod] = {
    **{f"taylor{kappa}": NewtonSchulz(f"taylor{kappa}", 5) for kappa in (1, 2, 3, 4)},
    "jordan": NewtonSchulz("jordan", 5),
    "you": NewtonSchulz("you", 5),
    "polar_express": NewtonSchulz("polar_express", 5),
    "cans": NewtonSchulz("cans", 12),
    "fast": NewtonSchulz(FAST, 4, normalize="schatten4"),
    "near_exact": NewtonSchulz("polar_express", 8, normalize="schatten4"),
    "svd": SVD(),
}


def is_scale_invariant(method: PolarMethod) -> bool:
    """Whether a method is known to give the same for x and for c·x, c > 0.

    Args:
      method: Any polar method.

    Returns:
      True for `SVD`, and for a `NewtonSchulz` that adds nothing to the norm.
    """
    if is_newton_schulz(method):
        return method.eps == 0 and method.normalize != "paper"
    return type(method) is SVD


def polar_all(
    method: PolarMethod, stacks: Sequence[Array], max_bytes: int | None = None
) -> list[Array]:
    """The polar factors of many stacks, by as few calls as share their products.

    Args:
      method: Any polar method. `NewtonSchulz` takes stacks of one short side together, whatever
        their long sides; another gets one call per pair of sides.
      stacks: `[batch, m, n]` each, wide or tall.
      max_bytes: See `stacking.map_stacked`.

    Returns:
      The same shapes and dtypes.
    """
    if is_newton_schulz(method):
        return map_stacked(method.polar_together, stacks, max_bytes, method.bucket_key)
    return map_stacked(_OneByOne(method.polar), stacks, max_bytes)


@dataclass(frozen=True)  # equal for equal methods, so that a loop over slices compiles once
class _OneByOne:
    polar: Callable[[Array], Array]

    def __call__(self, stacks: Sequence[Array]) -> list[Array]:
        return [self.polar(x) for x in stacks]


def orthogonalize(x: Array, method: PolarMethod = NewtonSchulz()) -> Array:  # noqa: B008
    """The polar factor of `x: [..., m, n]` by a method of choice.

    Args:
      x: `[..., m, n]`, real or complex, of any float dtype.
      method: One of `METHODS`, or any object with `.polar(x)`. The default, Jordan's five
        steps, is made for training: it leaves singular values between about 0.5 and 1.2. For
        an accurate factor pass `SVD()` or `METHODS["near_exact"]`.

    Returns:
      The same shape and dtype.

    Raises:
      ValueError: If x has fewer than two axes or is not of floats, or `method` is none.

    Example:
      >>> import jax.numpy as jnp
      >>> q = orthogonalize(jnp.arange(6.0).reshape(2, 3), SVD())
      >>> bool(jnp.allclose(q @ q.T, jnp.eye(2), atol=1e-6))
      True
    """
    check_method(method)
    return method.polar(x)
