"""Hyperball: a step along the sphere of matrices that have the initial Frobenius norm."""

from __future__ import annotations  # so that help() shows short types

from functools import partial
from typing import Any, NamedTuple

import jax.numpy as jnp
import optax
from jax import Array

from benchmarks.track.variants._matrices import map_matrices, norms_of_matrices
from muon_optax._casting import clip_to_finite, wide_dtype
from muon_optax._checks import check_schedulable, python_number
from muon_optax.dims import Dims
from muon_optax.polar._linalg import normalize


class SphereState(NamedTuple):
    """The steps done, an int32 scalar, and a tree with every matrix's norm `[batch, 1, 1]`."""

    count: Array
    radius: Any


def step_on_sphere(
    learning_rate: optax.ScalarOrSchedule, *, dims: Dims = None
) -> optax.GradientTransformationExtraArgs:
    """Take a step of relative length η, then restore the norm that the matrix began with.

    `W ← R·normalize(normalize(W) - η·normalize(u))`, `normalize(x) = x/‖x‖_F`, `R = ‖W₀‖_F`.
    Chain it in place of `optax.scale_by_learning_rate`. A factor of u has no effect.

    Args:
      learning_rate: η ≥ 0, or a schedule: the tangent of the angle by which a u ⟂ W turns W.
      dims: Which leaf is a matrix and along which axes; see `muon_optax.dims`.

    Returns:
      A transformation with a `SphereState`. A zero update stays zero; updates keep their dtype.

    Raises:
      ValueError: If the rate is out of its range, a leaf is not a matrix under `dims`, or
        `update` gets no parameters; at `init` outside of `jax.jit`, if a matrix is zero.

    Example:
      >>> w, u = {"w": jnp.diag(jnp.array([5.0, 0.0]))}, {"w": jnp.diag(jnp.array([0.0, 9.0]))}
      >>> tx = step_on_sphere(0.75)
      >>> updates, _ = tx.update(u, tx.init(w), w)
      >>> optax.apply_updates(w, updates)["w"].diagonal().round().tolist()
      [4.0, -3.0]

    Source: Wen et al. 2026, arXiv 2606.16899 (Hyperball). levanter and modded-nanogpt take the
    norm of the present weights, which rounding changes, and not a constant R.
    """
    check_schedulable("learning_rate", learning_rate, "a number ≥ 0", lambda r: r >= 0)

    def init(params: optax.Params) -> SphereState:
        return SphereState(jnp.zeros([], jnp.int32), norms_of_matrices(dims, params))

    def update(updates: Any, state: Any, params: Any = None, **extra_args: Any) -> tuple:
        del extra_args
        if params is None:
            raise ValueError("params=None; use update(grads, state, params)")
        rate = learning_rate(state.count) if callable(learning_rate) else learning_rate
        step = partial(_step, python_number(rate))
        steps = map_matrices(step, dims, updates, params, state.radius)
        return steps, state._replace(count=jnp.asarray(optax.safe_increment(state.count)))

    return optax.GradientTransformationExtraArgs(init, update)


def _step(rate: Any, u: Array, w: Array, radius: Array) -> Array:
    """What the step adds to the weights."""
    dtype = wide_dtype(u.dtype, w.dtype)
    (direction, length), (old, _) = (normalize(x.astype(dtype)) for x in (u, w))
    new, _ = normalize(old - jnp.asarray(rate).astype(dtype) * direction)
    step = clip_to_finite(
        radius.astype(dtype) * new - w.astype(dtype), u.dtype, jnp.isfinite(new)
    )
    return jnp.where((length == 0) | (radius == 0), 0, step)
