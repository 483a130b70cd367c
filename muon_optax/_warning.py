"""A warning that points at the user's own line."""

import sys
import warnings

_LIBRARIES = ("muon_optax", "optax", "jax", "jaxlib", "flax")  # not the user's code


def warn_user(message: str) -> None:
    """Show the warning at the user's call into this library, Optax, JAX or Flax."""
    frame, level = sys._getframe(0), 1
    while frame.f_back and frame.f_globals.get("__name__", "").split(".")[0] in _LIBRARIES:
        frame, level = frame.f_back, level + 1
    warnings.warn(message, stacklevel=level)
