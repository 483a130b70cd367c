"""Measures of a matrix, or of an update and its momentum: one number per matrix.

All functions take batches of matrices `[..., m, n]`, real or complex, of any float dtype, and
compute in float32 or wider. They work under `jax.jit`. A matrix that is not finite gives NaN or
infinity, and does not affect the results of the other matrices.
"""

from collections.abc import Callable

import jax.numpy as jnp
from jax import Array

from muon_optax._casting import wide_dtype
from muon_optax._leaves import LeafError
from muon_optax.polar._linalg import check_matrix, product, scale_to_range, svd
from muon_optax.polar._svd import SVD


def alignment(momentum: Array, update: Array) -> Array:
    """Return the alignment `⟨M, O⟩/‖M‖_*`: the fraction of the nuclear norm an update keeps.

    Args:
      momentum: M, `[..., m, n]`, the input of the polar step.
      update: O, the same shape, before any learning rate or shape factor.

    Returns:
      `[...]`, float32 or wider. The alignment is 1 for the exact polar factor, and for a zero
      momentum. For `NewtonSchulz` with its default normalization, it is at least
      `theory.alignment_bound`.

    Raises:
      ValueError: If an argument is not an array `[..., m, n]` of floats, or the shapes differ.

    Example:
      >>> x = jnp.diag(jnp.array([4.0, 3.0]))
      >>> round(float(alignment(x, x / 5)), 4)  # normalized, not orthogonalized: 25/5/7
      0.7143

    Source: docs/theory.md, section 3; proof in docs/proofs.md, 3.1.
    """
    m, o = _pair(momentum, update)
    nuclear = _singular_values(m).sum(-1)
    inner = _sum(m.conj() * o).real
    zero = nuclear == 0
    return jnp.where(zero, 1.0, inner / jnp.where(zero, 1.0, nuclear))


def polar_error(momentum: Array, update: Array) -> Array:
    """Return the distance `ε = ‖O - Polar(M)‖_op` to the exact polar factor.

    Args:
      momentum: M, `[..., m, n]`, the input of the polar step.
      update: O, the same shape, before any learning rate or shape factor.

    Returns:
      `[...]`, float32 or wider. One small singular value of M is enough to bring ε near 1. So
      Muon's convergence depends not on ε but on `alignment`.

    Raises:
      ValueError: If an argument is not an array `[..., m, n]` of floats, or the shapes differ.

    Example:
      >>> x = jnp.diag(jnp.array([4.0, 3.0]))
      >>> round(float(polar_error(x, x / 5)), 6)
      0.4

    Source: Kim & Oh, arXiv 2601.19156, Definition 3.
    """
    m, o = _pair(momentum, update)
    return _singular_values(o - SVD().polar(m)).max(-1, initial=0.0)


def orthogonality_error(x: Array) -> Array:
    """Return the root mean square of `1 - σ²` over the singular values σ of a matrix.

    For a matrix x with r rows and at least r columns, it is `‖I - x·xᴴ‖_F/√r`.

    Args:
      x: `[..., m, n]`.

    Returns:
      `[...]`, float32 or wider; 0 if all singular values are 1.

    Raises:
      ValueError: If `x` is not an array `[..., m, n]` of floats.

    Example:
      >>> round(float(orthogonality_error(jnp.diag(jnp.array([1.0, 0.0])))), 4)
      0.7071
    """
    check_matrix(x)
    y = x if x.shape[-2] <= x.shape[-1] else x.mT
    gram = product(y, y.mT.conj())
    identity = jnp.broadcast_to(jnp.eye(gram.shape[-1], dtype=gram.dtype), gram.shape)
    off = jnp.abs(identity - gram) ** 2
    return jnp.sqrt(_sum(off) / max(1, gram.shape[-1]))


def operator_norm(x: Array) -> Array:
    """Return the largest singular value of each matrix.

    Args:
      x: `[..., m, n]`.

    Returns:
      `[...]`, float32 or wider.

    Raises:
      ValueError: If `x` is not an array `[..., m, n]` of floats.

    Example:
      >>> float(operator_norm(jnp.diag(jnp.array([4.0, -3.0]))))
      4.0
    """
    y, scale = _wide(x)
    return _singular_values(y).max(-1, initial=0.0) / scale


def stable_rank(x: Array) -> Array:
    """Return the stable rank `‖x‖_F²/‖x‖_op²`, between 1 and min(m, n).

    Args:
      x: `[..., m, n]`.

    Returns:
      `[...]`, float32 or wider; 0 for a zero matrix.

    Raises:
      ValueError: If `x` is not an array `[..., m, n]` of floats.

    Example:
      >>> float(stable_rank(jnp.diag(jnp.array([2.0, 1.0]))))
      1.25
    """
    sigma = _singular_values(_wide(x)[0])
    largest = sigma.max(-1, initial=0.0)
    return ((sigma / jnp.where(largest > 0, largest, 1.0)[..., None]) ** 2).sum(-1)


def root_mean_square(x: Array) -> Array:
    """Return the root mean square of a matrix's entries.

    Args:
      x: `[..., m, n]`.

    Returns:
      `[...]`, float32 or wider. For a polar factor of rank r it is `√(r/(m·n))`.

    Raises:
      ValueError: If `x` is not an array `[..., m, n]` of floats.

    Example:
      >>> round(float(root_mean_square(jnp.array([[3.0, 4.0]]))), 4)
      3.5355
    """
    y, scale = _wide(x)
    return jnp.sqrt(_sum(jnp.abs(y) ** 2) / max(1, x.shape[-1] * x.shape[-2])) / scale


def cosine(x: Array, y: Array) -> Array:
    """Return the cosine of the angle between two matrices, such as a momentum and a gradient.

    Args:
      x: `[..., m, n]`.
      y: The same shape.

    Returns:
      `[...]`, float32 or wider, in [-1, 1]; 0 if either matrix is zero.

    Raises:
      ValueError: If an argument is not an array `[..., m, n]` of floats, or the shapes differ.

    Example:
      >>> round(float(cosine(jnp.array([[1.0, 1.0]]), jnp.array([[1.0, 0.0]]))), 4)
      0.7071
    """
    x, y = _pair(x, _wide(y)[0])
    norms = jnp.sqrt(_sum(jnp.abs(x) ** 2)) * jnp.sqrt(_sum(jnp.abs(y) ** 2))
    return jnp.clip(_sum(x.conj() * y).real / jnp.where(norms > 0, norms, 1.0), -1.0, 1.0)


LEVELS = tuple(i / 16 for i in range(17))  # from the smallest singular value to the largest


def quantiles(x: Array) -> Array:
    """Return the quantiles `[..., 17]` of the singular values at `LEVELS`, float32 or wider.

    Each quantile is one of the singular values, not an average of two.
    """
    y, scale = _wide(x)
    # The Gram matrix would be cheaper, but loses values below √eps times the largest.
    sigma = _singular_values(y)
    found = jnp.quantile(sigma, jnp.array(LEVELS), axis=-1, method="lower")
    return jnp.moveaxis(found, 0, -1) / scale[..., None]


# Name → function of a gradient g, and of the input m and the output o of the polar step.
MEASURES: dict[str, Callable[[Array, Array, Array], Array]] = {
    "alignment": lambda g, m, o: alignment(m, o),
    "polar_error": lambda g, m, o: polar_error(m, o),
    "orthogonality_error": lambda g, m, o: orthogonality_error(o),
    "operator_norm": lambda g, m, o: operator_norm(o),
    "update_rms": lambda g, m, o: root_mean_square(o),
    "momentum_stable_rank": lambda g, m, o: stable_rank(m),
    "gradient_cosine": lambda g, m, o: cosine(g, m),
}


def _wide(x: Array) -> tuple[Array, Array]:
    """Return `x·s` in float32 or wider, and `s: [...]`, powers of two that prevent overflow."""
    check_matrix(x)
    if x.size == 0:
        return x.astype(wide_dtype(x.dtype)), jnp.ones(x.shape[:-2])
    y, scale = scale_to_range(x)
    return y, scale[..., 0, 0]


def _pair(x: Array, y: Array) -> tuple[Array, Array]:
    """Cast both arrays to the same dtype, and scale the first one to prevent overflow."""
    check_matrix(y)
    if x.shape != y.shape:
        raise LeafError("", y, f"the other argument has shape {x.shape}; pass equal shapes")
    dtype = wide_dtype(x.dtype, y.dtype)
    return _wide(x)[0].astype(dtype), y.astype(dtype)


def _singular_values(x: Array) -> Array:
    return svd(x, compute_uv=False)


def _sum(x: Array) -> Array:
    return x.sum((-2, -1))
