"""Muown: the norm of every neuron's weights has a step of its own, next to their direction."""

from __future__ import annotations  # so that help() shows short types

from collections.abc import Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax
from jax import Array

from muon_optax._casting import saturating_cast, wide_dtype
from muon_optax.batching import gather_explicit, scatter_like
from muon_optax.dims import Dims, matrix_views
from muon_optax.polar._linalg import normalize


class NeuronNormState(NamedTuple):
    """The state of `separate_neuron_norms`: `±‖v‖` by neuron, and the states of its parts."""

    norm: list[Array]
    direction: Any
    magnitude: Any


def separate_neuron_norms(
    direction: optax.GradientTransformation,
    magnitude: optax.GradientTransformation,
    *,
    dims: Dims = None,
) -> optax.GradientTransformationExtraArgs:
    """Train the norm of every neuron's weights and their direction with two transformations.

    A column of the matrix view `[fan_in, fan_out]` is `g·u` with `u = v/‖v‖`, and v starts as
    the column. Of its gradient G, g gets `⟨G, u⟩` and v gets `(g/‖v‖)·(G - ⟨G, u⟩·u)`. A
    column of zeros moves by the step of v.

    Args:
      direction: The transformation of v, with its learning rate: a chain of `scale_by_muon`,
        `scale_by_shape("adam_rms")` and `optax.scale_by_learning_rate(η)`.
      magnitude: That of all g, a list of arrays: `optax.adam(η, 0.9, 0.95)`, for example. With
        `optax.lion`, the scale of the gradients does not matter.
      dims: Which leaf is a matrix and along which axes; see `muon_optax.dims`.

    Returns:
      A transformation that needs parameters and no learning rate; updates keep their dtype.

    Raises:
      ValueError: If a leaf is not a matrix under `dims`, or `update` gets no parameters.

    Example:
      >>> tx = separate_neuron_norms(optax.sgd(0.0), optax.sgd(1.0))
      >>> w, grad = jnp.array([[4.0], [0.0]]), jnp.array([[-2.0], [5.0]])
      >>> (w + tx.update(grad, tx.init(w), w)[0]).tolist()
      [[6.0], [0.0]]

    Source: Lion et al. 2026, arXiv 2605.10797 (Muown). Its code stores g; here g is the norm of
    the weights, so that a weight decay or a projection after this changes it, too.
    """
    direction, magnitude = map(optax.with_extra_args_support, (direction, magnitude))

    def init(params: optax.Params) -> NeuronNormState:
        norm = [normalize(w, (-2,))[1] for w in _to_stacks(dims, params)]
        return NeuronNormState(norm, direction.init(params), magnitude.init(norm))

    def update(updates: Any, state: Any, params: Any = None, **extra: Any) -> Any:
        if params is None:
            raise ValueError("params=None; use update(grads, state, params)")
        stacks = zip(_to_stacks(dims, params), _to_stacks(dims, updates), state.norm)
        split = [_split(*of) for of in stacks]
        u, g, norm, of_g, of_v = ([parts[i] for parts in split] for i in range(5))
        dg, of_magnitude = magnitude.update(of_g, state.magnitude, g, **extra)
        v = _from_stacks(dims, [n * x for n, x in zip(norm, u)], params)
        of_v = _from_stacks(dims, of_v, updates)
        dv, of_direction = direction.update(of_v, state.direction, v, **extra)
        steps = zip(u, g, norm, jax.tree.leaves(dg), _to_stacks(dims, dv))
        moved = [_join(*of) for of in steps]
        dw, norm = ([pair[i] for pair in moved] for i in (0, 1))
        state = NeuronNormState(norm, of_direction, of_magnitude)
        return _from_stacks(dims, dw, updates), state

    return optax.GradientTransformationExtraArgs(init, update)


def _to_stacks(dims: Dims, tree: Any) -> list[Array]:
    wide = [gather_explicit(x.astype(wide_dtype(x.dtype))) for x in jax.tree.leaves(tree)]
    return [m for x, view in zip(wide, matrix_views(dims, tree)) for m in view.to_matrices(x)]


def _from_stacks(dims: Dims, stacks: Sequence[Array], like: Any) -> Any:
    rest, views = iter(stacks), iter(matrix_views(dims, like))

    def build(leaf: Array) -> Array:
        view = next(views)
        x = view.from_matrices([next(rest) for _ in view.sides], leaf.shape)
        return scatter_like(saturating_cast(x, leaf.dtype), leaf)

    return jax.tree.map(build, like)


def _dot(x: Array, y: Array) -> Array:
    return jnp.sum((x.conj() * y).real, -2, keepdims=True)


def _split(w: Array, grad: Array, norm: Array) -> tuple[Array, ...]:
    """`u`, `g` and `‖v‖` of every column, and the gradients by g and v."""
    u, size = normalize(w, (-2,))
    sign = jnp.copysign(jnp.ones_like(norm), norm)
    u, g, norm = u * sign, size * sign, jnp.where(norm == 0, size, jnp.abs(norm))
    grad, length = normalize(grad, (-2,))
    cosine = jnp.clip(_dot(u, grad), -1, 1)
    by_v = jnp.where(g == 0, 1, g / jnp.where(norm == 0, 1, norm)) * length
    by_v = jnp.clip(by_v, -jnp.finfo(by_v.dtype).max, jnp.finfo(by_v.dtype).max)
    return u, g, norm, length * cosine, by_v * (grad - cosine * u)


def _join(u: Array, g: Array, norm: Array, dg: Array, dv: Array) -> tuple[Array, Array]:
    """The step of `g·u` without cancellation, and the new `‖v‖` with the sign of g."""
    new, longer = normalize(norm * u + dv, (-2,))
    total = norm + longer
    part = norm / jnp.where(total == 0, 1, total)
    growth = part * _dot(u, dv) + (1 - part) * _dot(new, dv)  # ‖v + dv‖ - ‖v‖
    du = (dv - growth * u) / jnp.where(longer == 0, 1, longer)
    dw = jnp.where(g == 0, dv, dg * new + g * du)
    return dw, jnp.copysign(longer, jnp.where(g == 0, longer, g + dg))
