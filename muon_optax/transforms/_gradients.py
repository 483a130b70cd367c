"""Knows how gradients go with parameters: leaf by leaf, of one shape, and perhaps absent."""

from typing import Any

import jax
import jax.numpy as jnp
import optax
from jax import Array
from jax.tree_util import KeyPath

from muon_optax._casting import saturating_cast
from muon_optax._leaves import LeafError, check_float_array, path_name

# What optax.inject_hyperparams calls its rates, which may have a parameter's name.
_INJECTED = ("hyperparams", "hyperparams_states")


def check_gradients(updates: Any, params: Any) -> None:
    """Refuse gradients that lack a leaf, have one too many, or one of another shape.

    Args:
      updates: Gradients.
      params: Parameters, or None for nothing to compare with.

    Raises:
      ValueError: If leaves are missing or unknown; all are named.
      LeafError: If a leaf has another shape, or is complex where its parameter is not.
    """
    if params is None:
        return
    given, known = (
        {path_name(path): x for path, x in jax.tree.leaves_with_path(tree)}
        for tree in (updates, params)
    )
    missing, unknown = sorted({*known} - {*given}), sorted({*given} - {*known})
    if missing or unknown:
        lists = (("missing", missing), ("unknown", unknown))
        said = "; ".join(
            f"{what}: {names[:5]}, {len(names)} in all" for what, names in lists if names
        )
        raise ValueError(
            f"gradients are not of these parameters. {said}. Pass what jax.grad returns for "
            "them; None says that a leaf is to stay as it is"
        )
    for name, x in given.items():
        check_float_array(name, x)
        if x.shape != known[name].shape:
            problem = f"a gradient for a parameter of shape {known[name].shape}"
            raise LeafError(name, x, problem)
        if jnp.iscomplexobj(x) and not jnp.iscomplexobj(known[name]):
            problem = "a gradient for a real parameter; pass its real part"
            raise LeafError(name, x, problem)


def filled(updates: Any, params: Any) -> tuple[Any, set[KeyPath]]:
    """Zeros where a parameter has None for a gradient, and the paths of these.

    Args:
      updates: Gradients.
      params: Parameters, or None; then nothing is filled.

    Returns:
      The gradients, and paths.
    """
    nothing = lambda x: x is None
    absent = {p for p, x in jax.tree.leaves_with_path(updates, is_leaf=nothing) if x is None}
    if params is None or not absent:
        return updates, set()
    known = dict(jax.tree.leaves_with_path(params))

    def fill(path: KeyPath, x: Array | None) -> Array | None:
        return jnp.zeros_like(known[path]) if x is None and path in known else x

    return jax.tree.map_with_path(fill, updates, is_leaf=nothing), absent & {*known}


def held(
    updates: Any, state: Any, old_state: Any, params: Any, absent: set[KeyPath]
) -> tuple[Any, Any]:
    """What a step leaves of parameters without a gradient: no update, and their old state.

    Args:
      updates: As the step returned them.
      state: As the step returned it.
      old_state: As the step got it.
      params: Parameters.
      absent: Paths, from `filled`.

    Returns:
      Updates and state.
    """
    if not absent:
        return updates, state

    known = dict(jax.tree.leaves_with_path(params))

    def stays(path: KeyPath, leaf: Array) -> bool:
        """Whether a state's leaf is such a parameter's, by the end of its path."""
        if any(getattr(key, "name", None) in _INJECTED for key in path):
            return False
        ends = (path[start:] for start in range(len(path) + 1))
        owner = next((end for end in ends if end in known), None)
        # All paths end like a bare array's, which is empty: those of counts, too.
        return owner in absent and (owner != () or jnp.ndim(leaf) > 0)

    updates = jax.tree.map_with_path(
        lambda path, u: jnp.zeros_like(u) if path in absent else u, updates
    )
    state = jax.tree.map_with_path(
        lambda path, new, old: old if stays(path, old) else new, state, old_state
    )
    return updates, state


def cast_like_params(
    transformation: optax.GradientTransformation,
) -> optax.GradientTransformationExtraArgs:
    """A transformation that sees gradients in the dtype of parameters, and float16 as float32.

    Squares of float16 leave its range, as Adam's ε does. And a state that mixes dtypes with
    gradients of another would change its own.

    Args:
      transformation: Any.

    Returns:
      One whose updates have the parameters' dtype, or the gradients' without parameters.
    """
    inner = optax.with_extra_args_support(transformation)

    def wide(x: Any, like: Any = None) -> Any:
        dtype = (x if like is None else like).dtype
        dtype = jnp.float32 if dtype == jnp.float16 else dtype
        is_shape = isinstance(x, jax.ShapeDtypeStruct)
        return jax.ShapeDtypeStruct(x.shape, dtype) if is_shape else saturating_cast(x, dtype)

    def init(params: optax.Params) -> Any:
        return inner.init(jax.tree.map(wide, params))

    def update(
        updates: optax.Updates,
        state: Any,
        params: optax.Params | None = None,
        **extra_args: Any,
    ) -> tuple[optax.Updates, Any]:
        like = updates if params is None else params
        gradients = jax.tree.map(wide, updates, like)
        widened = None if params is None else jax.tree.map(wide, params)
        found, state = inner.update(gradients, state, widened, **extra_args)
        return jax.tree.map(lambda u, p: saturating_cast(u, p.dtype), found, like), state

    return optax.GradientTransformationExtraArgs(init, update)
