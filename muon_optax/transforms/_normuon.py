"""NorMuon: a second moment for each neuron, so that all neurons get updates of equal size."""

from __future__ import annotations  # so that help() shows short types

from functools import partial
from typing import Any, NamedTuple

import jax.numpy as jnp
import optax
from jax import Array
from jax.typing import ArrayLike

from muon_optax._casting import clip, wide_dtype
from muon_optax._checks import check_traceable
from muon_optax.batching import gather_explicit, scatter_like
from muon_optax.dims import Dims, MatrixView
from muon_optax.polar._linalg import normalize
from muon_optax.transforms._by_leaf import scale_by_moments


class NeuronState(NamedTuple):
    """The state of `scale_by_neuron_rms`.

    Attributes:
      nu: A tree like the parameters, with a tuple at every leaf. For each stack of matrices,
        the tuple has a float32 array `[batch, 1, fan_out]`, the running mean square of every
        neuron's update.
    """

    nu: Any


def scale_by_neuron_rms(
    b2: ArrayLike = 0.95, eps: ArrayLike = 1e-10, *, dims: Dims = None
) -> optax.GradientTransformationExtraArgs:
    """Divide each neuron's update by its running RMS, and keep the matrix's norm (NorMuon).

    `v ← β₂·v + (1-β₂)·mean(O²)`, where the mean is over the inputs of each neuron, and
    `O' = O/(√v + ε)`. The new update is `O'·‖O‖_F/‖O'‖_F`. A neuron is a column of the matrix
    `[fan_in, fan_out]`. Chain this transformation between `scale_by_muon` and `scale_by_shape`.

    Args:
      b2: β₂ in [0, 1), the decay of the second moment.
      eps: ε > 0.
      dims: Which leaves are matrices, and along which axes; see `muon_optax.dims`.

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
    check_traceable("b2", b2, "a number in [0, 1)", lambda b: 0 <= b < 1)
    check_traceable("eps", eps, "a number > 0", lambda e: e > 0)
    return scale_by_moments(
        NeuronState, _neuron_moments, partial(_scale_neurons, b2=b2, eps=eps), dims
    )


def _neuron_moments(param: Array, view: MatrixView) -> tuple[Array, ...]:
    del param
    return tuple(
        jnp.zeros([batch, 1, fan_out], jnp.float32) for batch, _, fan_out in view.sides
    )


def _scale_neurons(
    x: Array, nu: tuple[Array, ...], view: MatrixView, b2: ArrayLike, eps: ArrayLike
) -> tuple[Array, tuple[Array, ...]]:
    stacks = zip(view.to_matrices(gather_explicit(x)), nu)
    pairs = [_scale_stack(o, v, b2, eps) for o, v in stacks]
    scaled, moments = ([pair[i] for pair in pairs] for i in (0, 1))
    return scatter_like(view.from_matrices(scaled, x.shape), x), tuple(moments)


def _scale_stack(o: Array, v: Array, b2: ArrayLike, eps: ArrayLike) -> tuple[Array, Array]:
    """Return the scaled stack, and the new second moment `v: [batch, 1, fan_out]`."""
    wide = o.astype(wide_dtype(o.dtype))
    square = jnp.sum(jnp.abs(wide) ** 2, -2, keepdims=True) / max(1, o.shape[-2])
    scaled, v = divide_by_rms(wide, square, v, b2, eps)
    return restore_norm(scaled, o), v


def divide_by_rms(
    o: Array, square: Array, v: Array, b2: ArrayLike, eps: ArrayLike
) -> tuple[Array, Array]:
    """Return `o/(√v + ε)` and the updated second moment v."""
    b2, eps = jnp.asarray(b2, square.dtype), jnp.asarray(eps, square.dtype)
    square = clip(square, jnp.finfo(jnp.float32).max)  # otherwise v would stay infinite
    v = b2 * v.astype(square.dtype) + (1 - b2) * square
    return o / (jnp.sqrt(v) + eps).astype(o.dtype), v.astype(jnp.float32)


def restore_norm(scaled: Array, o: Array) -> Array:
    """Give every matrix the Frobenius norm and the dtype of the corresponding matrix in `o`."""
    (direction, _), (_, norm) = normalize(scaled), normalize(o)
    restored = direction * norm.astype(direction.dtype)
    return clip(restored, jnp.finfo(o.dtype).max).astype(o.dtype)
