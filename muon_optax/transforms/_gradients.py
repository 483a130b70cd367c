"""The preparation of gradients: checks against the parameters, missing gradients, dtypes."""

from typing import Any

import jax
import jax.numpy as jnp
import optax
from jax import Array
from jax.tree_util import KeyPath

from muon_optax._casting import saturating_cast
from muon_optax._leaves import LeafError, check_float_array, leaves_by_path


def check_gradients(updates: Any, params: Any) -> None:
    """Refuse gradients that do not have the parameters' leaves and shapes.

    Also refuse a complex gradient of a real parameter. If `params` is None, check nothing.
    """
    if params is None:
        return
    gradients, known = leaves_by_path(updates), leaves_by_path(params)
    missing, unknown = sorted({*known} - {*gradients}), sorted({*gradients} - {*known})
    if missing or unknown:
        lists = (("missing", missing), ("unknown", unknown))
        found = "; ".join(
            f"{what}: {names[:5]}, {len(names)} in all" for what, names in lists if names
        )
        raise ValueError(
            f"the gradients do not match the parameters. {found}. Pass what jax.grad returns "
            "for these parameters; use None as the gradient of a leaf that should not change"
        )
    for name, x in gradients.items():
        check_float_array(name, x)
        if x.shape != known[name].shape:
            problem = f"the parameter has shape {known[name].shape}; pass a gradient like it"
            raise LeafError(name, x, problem)
        if jnp.iscomplexobj(x) and not jnp.iscomplexobj(known[name]):
            problem = "the gradient is complex, but the parameter is real; pass the real part"
            raise LeafError(name, x, problem)


def zeros_for_missing(updates: Any, params: Any) -> tuple[Any, set[KeyPath]]:
    """Replace gradients that are None by zeros; also return the paths of these gradients."""
    is_none = lambda x: x is None
    missing = {p for p, x in jax.tree.leaves_with_path(updates, is_leaf=is_none) if x is None}
    if params is None or not missing:
        return updates, set()
    known = dict(jax.tree.leaves_with_path(params))

    def fill(path: KeyPath, x: Array | None) -> Array | None:
        return jnp.zeros_like(known[path]) if x is None and path in known else x

    return jax.tree.map_with_path(fill, updates, is_leaf=is_none), missing & {*known}


def freeze_missing(
    inner: optax.GradientTransformation,
    updates: Any,
    state: Any,
    old_state: Any,
    missing: set[KeyPath],
) -> tuple[Any, Any]:
    """Undo a step of `inner` for those parameters whose gradients are missing.

    Their updates become zero, and their parts of the state get the old values back.
    """
    if not missing:
        return updates, state
    updates = jax.tree.map_with_path(
        lambda path, u: jnp.zeros_like(u) if path in missing else u, updates
    )

    is_pair = lambda x: isinstance(x, _Pair)

    def choose(path: KeyPath, pair: _Pair) -> Array:
        # If a parameter has several moments, its path is a prefix of the moments' paths.
        owners = (path[:length] for length in range(len(path) + 1))
        return pair.old if any(owner in missing for owner in owners) else pair.new

    def of_parameters(pairs: Any) -> Any:
        return jax.tree.map_with_path(choose, pairs, is_leaf=is_pair)

    def of_others(pairs: Any) -> Any:
        return jax.tree.map(lambda pair: pair.new, pairs, is_leaf=is_pair)

    pairs = jax.tree.map(_Pair, state, old_state)
    state = optax.tree_map_params(
        inner, of_parameters, pairs, transform_non_params=of_others, is_leaf=lambda _: True
    )
    return updates, state


class _Pair:
    """The values at one leaf of a state, after and before a step. A pair is a leaf, too."""

    def __init__(self, new: Array, old: Array):
        self.new, self.old = new, old


def cast_like_params(
    transformation: optax.GradientTransformation,
) -> optax.GradientTransformationExtraArgs:
    """Give a transformation gradients in the parameters' dtype, or in float32 for float16.

    In float16, the squares of gradients and Adam's ε would be out of range. If gradients had
    another dtype than the parameters, a step would change the state's dtype. Updates have the
    dtype of the parameters, or that of the gradients if `update` gets no parameters.
    """
    inner = optax.with_extra_args_support(transformation)

    def widen(x: Any, like: Any = None) -> Any:
        dtype = (x if like is None else like).dtype
        dtype = jnp.float32 if dtype == jnp.float16 else dtype
        is_shape = isinstance(x, jax.ShapeDtypeStruct)
        return jax.ShapeDtypeStruct(x.shape, dtype) if is_shape else saturating_cast(x, dtype)

    def init(params: optax.Params) -> Any:
        return inner.init(jax.tree.map(widen, params))

    def update(
        updates: optax.Updates,
        state: Any,
        params: optax.Params | None = None,
        **extra_args: Any,
    ) -> tuple[optax.Updates, Any]:
        like = updates if params is None else params
        gradients = jax.tree.map(widen, updates, like)
        widened = None if params is None else jax.tree.map(widen, params)
        with jax.numpy_dtype_promotion("standard"):  # Optax's Adam relies on it
            found, state = inner.update(gradients, state, widened, **extra_args)
        return jax.tree.map(lambda u, p: saturating_cast(u, p.dtype), found, like), state

    return optax.GradientTransformationExtraArgs(init, update)
