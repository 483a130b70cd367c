"""The shape factor of an update, which depends on `fan_in` and `fan_out`."""

from __future__ import annotations  # so that help() shows short types

import math
from collections.abc import Callable
from functools import partial

import jax.numpy as jnp
import numpy as np
import optax
from jax import Array

from muon_optax._casting import clip
from muon_optax._checks import check_choice
from muon_optax.dims import Dims, MatrixView
from muon_optax.transforms._by_leaf import transform_leaves

SHAPE_SCALINGS: dict[str, Callable[[int, int], float]] = {
    # Jordan et al. 2024, kellerjordan.github.io/posts/muon; the default of optax.contrib.
    "jordan": lambda fan_in, fan_out: math.sqrt(max(1.0, fan_out / fan_in)),
    # Liu et al. 2025 (Moonlight), arXiv 2502.16982, Section 2.2: the RMS of AdamW's updates.
    "adam_rms": lambda fan_in, fan_out: 0.2 * math.sqrt(max(fan_in, fan_out)),
    # Bernstein 2025, jeremybernste.in/writing/deriving-muon: unit RMS to RMS operator norm.
    "rms_to_rms": lambda fan_in, fan_out: math.sqrt(fan_out / fan_in),
    "none": lambda fan_in, fan_out: 1.0,
}


def scale_by_shape(
    rule: str = "jordan", *, dims: Dims = None
) -> optax.GradientTransformationExtraArgs:
    """Multiply every matrix by a factor that depends on its `fan_in` and `fan_out`.

    `"jordan"`: `√max(1, out/in)`. `"adam_rms"`: `0.2·√max(in, out)`, which gives updates the
    RMS of AdamW's updates. `"rms_to_rms"`: `√(out/in)`. `"none"`: 1.

    Args:
      rule: One of these four names.
      dims: Which leaves are matrices, and along which axes; see `muon_optax.dims`.

    Returns:
      A stateless transformation. If the factor is above 1, results are clipped to the largest
      number of their dtype; NaN stays NaN.

    Raises:
      ValueError: If the rule is unknown; at `init` and `update`, if a leaf is not a matrix
        under `dims`.

    Example:
      >>> tx = scale_by_shape("jordan")
      >>> updates = {"w": jnp.ones((1, 4))}
      >>> tx.update(updates, tx.init(updates))[0]["w"].tolist()
      [[2.0, 2.0, 2.0, 2.0]]

    Source: Jordan et al. 2024, kellerjordan.github.io/posts/muon; Liu et al. 2025, arXiv
    2502.16982, Section 2.2; Bernstein 2025, jeremybernste.in/writing/deriving-muon.
    """
    check_choice("shape_scaling", rule, SHAPE_SCALINGS)
    return transform_leaves(partial(_scale, rule), dims)


def shape_factor(rule: str, fan_in: int, fan_out: int) -> float:
    """Return the shape factor of a `fan_in × fan_out` matrix; 1 for an empty matrix.

    >>> shape_factor("jordan", 256, 1024), shape_factor("jordan", 1024, 256)
    (2.0, 1.0)
    """
    check_choice("shape_scaling", rule, SHAPE_SCALINGS)
    return SHAPE_SCALINGS[rule](fan_in, fan_out) if fan_in and fan_out else 1.0


def _scale(rule: str, x: Array, view: MatrixView) -> Array:
    factors = [shape_factor(rule, fan_in, fan_out) for _, fan_in, fan_out in view.sides]
    if len(set(factors)) == 1 or x.size == 0:
        factor = factors[0]
    else:
        factor = view.broadcast_to_parts(factors, x.shape)
    # Use x once, without a mask or comparison, so that a GPU fuses this into a product.
    scaled = jnp.asarray(factor, x.dtype) * x
    return clip(scaled, jnp.finfo(x.dtype).max) if np.max(factor) > 1 else scaled
