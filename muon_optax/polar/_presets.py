"""The methods at hand by name, and `orthogonalize`, which applies one to a matrix.

The polar factor of `x = U·diag(σ)·Vᴴ` is `U·Vᴴ` over the nonzero σ.
"""

from jax import Array

from muon_optax.coefficients import FAST
from muon_optax.polar._method import PolarMethod, check_method, check_polars
from muon_optax.polar._newton_schulz import NewtonSchulz
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


def orthogonalize(x: Array, method: PolarMethod = NewtonSchulz()) -> Array:  # noqa: B008
    """The polar factor of every matrix of `x: [..., m, n]`.

    Args:
      x: `[..., m, n]`, real or complex, of any float dtype.
      method: One of `METHODS`, or any object with `.polar(x)`. The default, Jordan's five
        steps, is made for training: it leaves singular values between about 0.5 and 1.2. For
        an accurate factor pass `SVD()` or `METHODS["near_exact"]`.

    Returns:
      The same shape and dtype.

    Raises:
      ValueError: If x has fewer than two axes or is not of floats, or `method` is not a polar
        method.

    Example:
      >>> import jax.numpy as jnp
      >>> q = orthogonalize(jnp.arange(6.0).reshape(2, 3), SVD())
      >>> bool(jnp.allclose(q @ q.T, jnp.eye(2), atol=1e-6))
      True

    Source: Kim & Oh, arXiv 2601.19156, Section 3.1.
    """
    check_method(method)
    polar = method.polar(x)
    check_polars(method, [x], [polar])
    return polar


def find_method(name: str) -> PolarMethod:
    """The method of a name in `METHODS`, or of `"family:steps"`."""
    if name in METHODS:
        return METHODS[name]
    family, _, steps = name.partition(":")
    return NewtonSchulz(family, int(steps or 5))
