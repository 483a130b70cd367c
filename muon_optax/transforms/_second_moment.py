"""NorMuon and AdaMuon: all neurons, or all entries, of a matrix move by the same amount."""

from __future__ import annotations  # so that help() shows short types

from functools import partial
from typing import Any, NamedTuple

import jax.numpy as jnp
import optax
from jax import Array
from jax.typing import ArrayLike

from muon_optax._casting import wide_dtype
from muon_optax._checks import check_traceable
from muon_optax.batching import gather_explicit, scatter_like
from muon_optax.dims import Dims, MatrixView
from muon_optax.transforms._by_leaf import scale_by_moments


class NeuronState(NamedTuple):
    """The state of `scale_by_neuron_rms`.

    Attributes:
      nu: A tree like the parameters, with a tuple at every leaf: for each of its stacks of
        matrices float32 `[batch, 1, fan_out]`, the mean square of every neuron's update.
    """

    nu: Any


class EntryState(NamedTuple):
    """The state of `scale_by_entry_rms`.

    Attributes:
      nu: A tree like the parameters, float32: the mean square of every entry's update.
    """

    nu: Any


def scale_by_neuron_rms(
    b2: ArrayLike = 0.95, eps: ArrayLike = 1e-10, *, dims: Dims = None
) -> optax.GradientTransformationExtraArgs:
    """Divide the update of each neuron by its root mean square; keep the matrix's norm.

    `v ← β₂·v + (1-β₂)·mean(O²)` over the inputs of each output, `O' = O/(√v + ε)`, then
    `O'·‖O‖_F/‖O'‖_F`. Chain it between `scale_by_muon` and `scale_by_shape`. A neuron is a
    column of the matrix view `[fan_in, fan_out]`.

    Args:
      b2: β₂ in [0, 1), the decay of the second moment.
      eps: ε > 0.
      dims: Which leaf is a matrix and along which axes; see `muon_optax.dims`.

    Returns:
      A transformation whose state is a `NeuronState`; updates keep their dtype.

    Raises:
      ValueError: If an argument is out of its range; at `init` and `update`, if a leaf is not
        a matrix under `dims`.

    Example:
      >>> tx = scale_by_neuron_rms()
      >>> o = {"w": jnp.diag(jnp.array([1.0, 7.0]))}
      >>> tx.update(o, tx.init(o))[0]["w"].diagonal().round(3).tolist()
      [5.0, 5.0]

    Source: Li et al. 2025, arXiv 2510.05491 (NorMuon). Keeping the norm follows the authors'
    code; the paper multiplies by `0.2·√(fan_in·fan_out)/‖O'‖_F`.
    """
    _check(b2, eps)
    return scale_by_moments(
        NeuronState, _neuron_moments, partial(_scale_neurons, b2=b2, eps=eps), dims
    )


def scale_by_entry_rms(
    b2: ArrayLike = 0.95, eps: ArrayLike = 1e-8, *, dims: Dims = None
) -> optax.GradientTransformationExtraArgs:
    """Divide every entry of an update by its root mean square; keep the matrix's norm.

    `v ← β₂·v + (1-β₂)·O²`, `O' = O/(√v + ε)`, then `O'·‖O‖_F/‖O'‖_F`. Chain it between
    `scale_by_muon` and `scale_by_shape`. A bias correction of v would cancel.

    Args:
      b2: β₂ in [0, 1), the decay of the second moment.
      eps: ε > 0.
      dims: Which leaf is a matrix and along which axes; see `muon_optax.dims`.

    Returns:
      A transformation whose state is an `EntryState`, as large as float32 parameters and
      sharded like them; updates keep their dtype.

    Raises:
      ValueError: If an argument is out of its range; at `init` and `update`, if a leaf is not
        a matrix under `dims`.

    Example:
      >>> tx, o = scale_by_entry_rms(), jnp.diag(jnp.array([1.0, 7.0]))
      >>> tx.update(o, tx.init(o))[0].diagonal().round(3).tolist()
      [5.0, 5.0]

    Source: Si et al. 2025, arXiv 2507.11005 (AdaMuon): there O is polar(sign(μ)), and the norm
    0.2·√(fan_in·fan_out), as `scale_by_shape("adam_rms")` makes it where O is orthogonal.
    """
    _check(b2, eps)
    return scale_by_moments(
        EntryState, _entry_moments, partial(_scale_entries, b2=b2, eps=eps), dims
    )


def _check(b2: ArrayLike, eps: ArrayLike) -> None:
    check_traceable("b2", b2, "a number in [0, 1)", lambda b: 0 <= b < 1)
    check_traceable("eps", eps, "a number > 0", lambda e: e > 0)


def _neuron_moments(param: Array, view: MatrixView) -> tuple[Array, ...]:
    del param
    return tuple(
        jnp.zeros([batch, 1, fan_out], jnp.float32) for batch, _, fan_out in view.sides
    )


def _entry_moments(param: Array, view: MatrixView) -> Array:
    del view
    return jnp.zeros_like(param, dtype=jnp.float32)


def _scale_neurons(
    x: Array, nu: tuple[Array, ...], view: MatrixView, b2: ArrayLike, eps: ArrayLike
) -> tuple[Array, tuple[Array, ...]]:
    stacks = zip(view.to_matrices(gather_explicit(x)), nu)
    pairs = [_scale_stack(o, v, b2, eps) for o, v in stacks]
    scaled, moments = ([pair[i] for pair in pairs] for i in (0, 1))
    return scatter_like(view.from_matrices(scaled, x.shape), x), tuple(moments)


def _scale_stack(o: Array, v: Array, b2: ArrayLike, eps: ArrayLike) -> tuple[Array, Array]:
    """The scaled stack, and its neurons' second moment `v: [batch, 1, fan_out]`."""
    wide = o.astype(wide_dtype(o.dtype))
    square = jnp.sum(jnp.abs(wide) ** 2, -2, keepdims=True) / max(1, o.shape[-2])
    scaled, v = _divide_by_rms(wide, square, v, b2, eps)
    return _restore_norm(scaled, wide).astype(o.dtype), v


def _scale_entries(
    x: Array, nu: Array, view: MatrixView, b2: ArrayLike, eps: ArrayLike
) -> tuple[Array, Array]:
    o = x.astype(wide_dtype(x.dtype))
    scaled, nu = _divide_by_rms(o, jnp.abs(o) ** 2, nu, b2, eps)
    pairs = zip(*(view.to_matrices(gather_explicit(y)) for y in (scaled, o)))
    restored = [_restore_norm(*pair) for pair in pairs]
    update = scatter_like(view.from_matrices(restored, x.shape), x)
    return update.astype(x.dtype), nu


def _divide_by_rms(
    o: Array, square: Array, v: Array, b2: ArrayLike, eps: ArrayLike
) -> tuple[Array, Array]:
    """`o/(√v + ε)`, and the second moment v with the new squares."""
    b2, eps = jnp.asarray(b2, square.dtype), jnp.asarray(eps, square.dtype)
    v = b2 * v.astype(square.dtype) + (1 - b2) * square
    return o / (jnp.sqrt(v) + eps).astype(o.dtype), v.astype(jnp.float32)


def _restore_norm(scaled: Array, o: Array) -> Array:
    """Every matrix of a stack with the Frobenius norm that it has in `o`."""
    before, after = (jnp.linalg.norm(x, axis=(-2, -1), keepdims=True) for x in (o, scaled))
    return scaled * (before / jnp.where(after > 0, after, 1)).astype(scaled.dtype)
