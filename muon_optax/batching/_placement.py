"""Knows how arrays are put where they should lie, and made whole where that is needed."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array, lax
from jax.sharding import AxisType, NamedSharding, PartitionSpec

from muon_optax.batching._shardings import Shardings, infer_shardings, is_traced, own_sharding


def constrain(x: Array, sharding: NamedSharding) -> Array:
    """`x` in that sharding; a promise where a mesh's axes are automatic, a move where not."""
    if AxisType.Explicit in sharding.mesh.axis_types:
        return jax.sharding.reshard(x, sharding)
    return lax.with_sharding_constraint(x, sharding)


def place_on_mesh(given: Shardings, tree: Any) -> Any:
    """A tree with the shardings that `infer_shardings(given, tree)` finds, if any.

    Args:
      given: See `infer_shardings`.
      tree: Arrays, at the paths of parameters.

    Returns:
      The same arrays, placed.

    Raises:
      ValueError: See `infer_shardings`.
    """
    shardings = infer_shardings(given, tree)
    if shardings is None:
        return tree
    leaves, treedef = jax.tree.flatten(tree)
    return treedef.unflatten([constrain(x, s) for x, s in zip(leaves, shardings)])


def replicate(x: Array, sharding: NamedSharding | None) -> Array:
    """`x` on every device of a sharding's mesh; as it is where there is none."""
    return x if sharding is None else constrain(x, _everywhere(sharding, x))


def gather_explicit(x: Array) -> Array:
    """An array of explicit axes, whole on every device, as any reshape is then defined.

    Args:
      x: Any array.

    Returns:
      The same; where axes are automatic as it was, because XLA finds its own way.
    """
    return replicate(x, _explicit(x))


def scatter_like(x: Array, like: Array) -> Array:
    """The inverse of `gather_explicit`.

    Args:
      x: An array, whole on every device if `like` has explicit axes.
      like: What lies as it should.

    Returns:
      The same array.
    """
    own = _explicit(like)
    return constrain(x, own) if own else x


def replicate_unsharded(params: Any, state: Any) -> Any:
    """A new state, on every device of the parameters' mesh what of it is on one device.

    Else a step would be compiled twice: for the counters as they are made, and as they return.

    Args:
      params: Arrays; traced ones are let be.
      state: Of an optimizer, as `init` makes it. What is no array of numbers is let be.

    Returns:
      The same state, placed.
    """
    owns = [own_sharding(leaf) for leaf in jax.tree.leaves(params) if not is_traced(leaf)]
    known = next(filter(None, owns), None)
    if known is None:
        return state

    def placed(x: Array) -> Array:
        is_array = isinstance(x, jax.Array) and not jnp.issubdtype(x.dtype, jax.dtypes.extended)
        if not is_array or is_traced(x) or own_sharding(x) is not None:
            return x
        # Unlike jax.device_put it does not ask all processes if their arrays are equal.
        everywhere, copy = _everywhere(known, x), np.asarray(x)
        return jax.make_array_from_callback(x.shape, everywhere, copy.__getitem__)

    return jax.tree.map(placed, state)


def _everywhere(sharding: NamedSharding, x: Array) -> NamedSharding:
    # As JAX writes it after a step, which is compiled anew for another spelling.
    explicit = AxisType.Explicit in sharding.mesh.axis_types
    return NamedSharding(sharding.mesh, PartitionSpec(*[None] * x.ndim * explicit))


def _explicit(x: Array) -> NamedSharding | None:
    own = own_sharding(x)
    return own if own is not None and AxisType.Explicit in own.mesh.axis_types else None
