"""How far rounding may bring the result of a polar method from exact arithmetic.

A rounding error made early grows by the slope of the scalar map at 0, the product of the
stages' first coefficients: 4 times that, times eps, is the tolerance. Where a Gram matrix is
carried on, an error in it grows by the square of that segment's slope: a quarter of it more.
"""

import jax.numpy as jnp
import numpy as np

from muon_optax import SVD, NewtonSchulz


def gain(method):
    """How much the smallest singular values, and errors beside them, are amplified."""
    if isinstance(method, SVD):
        return 1e3  # 1/σ_min of `reference.spectra`, for errors turn singular vectors
    return float(np.prod([stage[0] for stage in method.schedule]))


def tolerance(method, dtype, shape=(5, 12)):
    """For matrices of that shape, in every entry."""
    computed_in, grown = jnp.promote_types(dtype, "float32"), 4 * gain(method)
    if isinstance(method, NewtonSchulz):
        plan, start = method.plan(*shape[-2:], dtype), 0
        computed_in = plan.dtype
        for count in plan.segments:
            slope = np.prod([stage[0] for stage in method.schedule[start : start + count]])
            grown += slope**2 / 4 if count > 1 else 0
            start += count
    computed, returned = (float(jnp.finfo(d).eps) for d in (computed_in, dtype))
    return grown * computed + 4 * returned
