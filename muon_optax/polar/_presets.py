"""The methods by name, and `orthogonalize`, which applies one to a matrix."""

from jax import Array

from muon_optax._checks import Choices
from muon_optax._schedules import PRESETS, find_preset
from muon_optax.polar._method import PolarMethod, check_method, check_polars
from muon_optax.polar._newton_schulz import NewtonSchulz
from muon_optax.polar._svd import SVD


def find_method(method: PolarMethod | str, others: tuple[str, ...] = ()) -> PolarMethod:
    """Return the method for a name such as `"fast"`; return a method unchanged.

    `others` are further names that an error message lists.

    >>> find_method("polar_express:8")
    NewtonSchulz('polar_express', 8)
    """
    if not isinstance(method, str):
        check_method(method)
        return method
    if method == "svd":
        return SVD()
    return NewtonSchulz(*find_preset(method, ("svd", *others)))


METHODS: dict[str, PolarMethod] = Choices(
    {name: find_method(name) for name in (*PRESETS, "svd")}
)


def orthogonalize(x: Array, method: PolarMethod | str = NewtonSchulz()) -> Array:  # noqa: B008
    """The polar factor of every matrix of `x: [..., m, n]`.

    The polar factor of `x = U·diag(σ)·Vᴴ` is `U·Vᴴ` over the nonzero σ.

    Args:
      x: `[..., m, n]`, real or complex, of any float dtype.
      method: Any object with `.polar(x)`, or a name, as in `muon`. The default, Jordan's five
        steps, is made for training and leaves singular values between about 0.5 and 1.2. For
        an accurate factor pass `SVD()` or `"near_exact"`.

    Returns:
      The same shape and dtype.

    Raises:
      ValueError: If x is not an array `[..., m, n]` of floats, or `method` is not a polar
        method.

    Example:
      >>> import jax.numpy as jnp
      >>> q = orthogonalize(jnp.arange(6.0).reshape(2, 3), SVD())
      >>> bool(jnp.allclose(q @ q.T, jnp.eye(2), atol=1e-6))
      True

    Source: Kim & Oh, arXiv 2601.19156, Section 3.1.
    """
    method = find_method(method)
    polar = method.polar(x)
    check_polars(method, [x], [polar])
    return polar
