"""Knows what sharing a polar step between devices takes of a method: cost, dtype, teamwork."""

import dataclasses
import math
from typing import TypeGuard

import jax.numpy as jnp
import numpy as np
from jax import Array
from jax.typing import DTypeLike

from muon_optax.polar._method import PolarMethod
from muon_optax.polar._newton_schulz import NewtonSchulz


def is_newton_schulz(method: PolarMethod) -> TypeGuard[NewtonSchulz]:
    """Whether a method is one, and no subclass with a `polar` of its own.

    Args:
      method: Any polar method.

    Returns:
      If so, `polar_together` is what it does.
    """
    return isinstance(method, NewtonSchulz) and type(method).polar is NewtonSchulz.polar


def cost(
    method: PolarMethod, sides: tuple[int, int], dtype: DTypeLike, devices: int = 1
) -> float:
    """What one matrix costs each of the devices that have parts of its long side, in flops.

    Args:
      method: Any polar method; what does not say its cost counts as `m²·n`.
      sides: `(m, n)` of the matrix, m ≤ n.
      dtype: Its dtype.
      devices: How many.

    Returns:
      A number; infinite where the method needs the matrix whole.
    """
    if is_newton_schulz(method):
        if devices == 1:
            return method.plan(sides, dtype).flops
        if method.form != "direct":
            return _gram_form(method).plan(sides, dtype).flops_each(devices)
    m, n = sides
    return m * m * n if devices == 1 else math.inf


def polar_in_teams(method: PolarMethod, parts: Array, axes: tuple[str, ...]) -> Array:
    """The polar factors of matrices whose long sides are spread along mesh axes.

    Args:
      method: One whose `cost` is finite for several devices.
      parts: `[batch, m, part]`.
      axes: The mesh axes, under `jax.shard_map`.

    Returns:
      The same shape and dtype.
    """
    assert is_newton_schulz(method), method
    return _gram_form(method).polar_together([parts], axes)[0]


def wire_dtype(method: PolarMethod, sides: tuple[int, int], dtype: DTypeLike) -> np.dtype:
    """The dtype in which matrices may travel to a method and back.

    Args:
      method: Any polar method.
      sides: `(m, n)` of the matrix.
      dtype: Its dtype.

    Returns:
      bfloat16 where that is what Newton-Schulz multiplies in and x is no wider than float32,
      whose range it has up to 3.39e38. Else the matrix's own.
    """
    if is_newton_schulz(method) and jnp.dtype(dtype).itemsize <= 4:
        dtype = "bfloat16" if method.plan(sides, dtype).dtype == "bfloat16" else dtype
    return jnp.dtype(dtype)


def _gram_form(method: NewtonSchulz) -> NewtonSchulz:
    return dataclasses.replace(method, form="gram")
