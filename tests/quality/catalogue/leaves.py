"""Unusual trees and leaves: rows 19 to 25, 31 to 34, and 61."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
from flax.core import freeze

from tests.quality.catalogue.checks import Wrong, check_close, check_refused, row
from tests.quality.catalogue.libraries import Library
from tests.quality.catalogue.steps import check_kernel, grads, params, run


@row(19, "leaves (0, 4), (4, 0), (0, 0), (0,)", "empty updates, the others as without")
def empty_leaves(library: Library) -> None:
    shapes = ((0, 4), (4, 0), (0, 0), (0,))
    empty = {f"layer{i}": {"kernel": jnp.zeros(shape)} for i, shape in enumerate(shapes)}
    updates, _ = run(library.muon(0.1), params(**empty), grads(**empty))
    for i, shape in enumerate(shapes):
        check_close(updates[f"layer{i}"]["kernel"], np.zeros(shape), 0, f"update of {shape}")
    check_kernel(updates)


@row(20, "scalar and vector leaves", "Adam's update, at its own rate")
def scalars(library: Library) -> None:
    """The update of optax's Adam or, for a library whose fallback uses Nesterov, of NAdam."""
    given = grads(scale=jnp.full((), -2.0))
    tx = library.muon(0.1, adam_learning_rate=0.01)
    updates, _ = run(tx, params(scale=jnp.ones(())), given)
    vectors = {path: given[path] for path in ("bias", "scale")}
    adams = [run(adam(0.01), vectors, vectors)[0] for adam in (optax.adam, optax.nadam)]
    for path in vectors:
        if not any(np.allclose(updates[path], adam[path], atol=1e-6) for adam in adams):
            raise Wrong(f"the update of {path} is not Adam's")


@row(21, "leaves of 3, 4, 5 axes without a spec", "the rules decide, and a table says how")
def many_axes(library: Library) -> None:
    """The printed table names each leaf and agrees with what happens."""
    shapes = {"blocks": (2, 8, 4), "conv2": (3, 3, 4, 8), "conv3": (2, 2, 2, 4, 8)}
    model = {name: {"kernel": _noise(shape)} for name, shape in shapes.items()}
    model["blocks"]["bias"] = _noise((2, 4))
    text, trained = library.plan(model)
    updates, _ = run(library.muon(0.1), model, model)
    for name in shapes:
        by_adam = np.allclose(np.abs(updates[name]["kernel"]), 0.1, atol=1e-5)
        if f"{name}/kernel" not in text:
            raise Wrong(f"{name}/kernel is not in the table")
        if trained[f"{name}/kernel"] == by_adam:
            raise Wrong(f"{name}/kernel is not trained as the table says")


def _noise(shape: tuple[int, ...]) -> jax.Array:
    return jnp.asarray(np.random.default_rng(0).standard_normal(shape), jnp.float32)


@row(22, "an empty tree, None as a leaf", "an empty update, None")
def nothing(library: Library) -> None:
    tx = library.muon(0.1)
    if run(tx, {}, {})[0] != {}:
        raise Wrong("updates of an empty tree are not empty")
    updates, _ = run(tx, params(frozen=None), grads(frozen=None))
    if updates["frozen"] is not None:
        raise Wrong(f"the update of None is {updates['frozen']}")
    check_kernel(updates)


def _with_leaf(library: Library, leaf: Any) -> Callable[[], Any]:
    """A step with this leaf among parameters and gradients."""
    return lambda: run(library.muon(0.1), params(odd=leaf), grads(odd=leaf))[0]


@row(23, "integer, boolean, key leaf", "error naming the leaf")
def no_floats(library: Library) -> None:
    leaves = {
        "integer": jnp.ones((3,), "int32"),
        "boolean": jnp.ones((3,), bool),
        "key": jax.random.key(0),
    }
    check_refused("odd", {kind: _with_leaf(library, leaf) for kind, leaf in leaves.items()})


@row(24, "a gradient of float0", "update zero, or error naming the leaf")
def float0(library: Library) -> None:
    """The gradient of an integer leaf, which row 23 expects to be refused."""
    given = grads(odd=np.zeros((3,), jax.dtypes.float0))
    step = lambda: run(library.muon(0.1), params(odd=jnp.ones((3,), "int32")), given)[0]
    try:
        updates = step()
    except Exception:
        check_refused("odd", {"float0": step})
    else:
        check_close(updates["odd"], np.zeros(3), 0)


@row(25, "a Python number, a list as a leaf", "error naming the leaf")
def no_arrays(library: Library) -> None:
    """A list of lists is a tree of numbers."""
    leaves = {"number": 1.0, "list": [[1.0, 2.0], [3.0, 4.0]]}
    check_refused("odd", {kind: _with_leaf(library, leaf) for kind, leaf in leaves.items()})


def _given(library: Library, given: Any) -> Callable[[], Any]:
    """A step with these gradients."""
    return lambda: run(library.muon(0.1), params(), given)[0]


@row(31, "gradients with a missing or an extra key", "error naming the keys")
def other_keys(library: Library) -> None:
    whole = grads()
    check_refused("bias", {"no bias": _given(library, {"kernel": whole["kernel"]})})
    check_refused("kernel", {"no kernel": _given(library, {"bias": whole["bias"]})})
    check_refused("odd", {"another": _given(library, grads(odd=jnp.ones(3)))})


@row(
    32, "FrozenDict gradients for dict parameters", "equal updates, or error naming FrozenDict"
)
def frozen_dict(library: Library) -> None:
    step = _given(library, freeze(grads()))
    try:
        updates = step()
    except Exception:
        check_refused("FrozenDict", {"frozen": step})
    else:
        check_kernel(updates)


def _check_shapes(library: Library, kernel: tuple[int, ...], table: tuple[int, ...]) -> None:
    """A gradient of another shape, for a matrix and for a leaf that Adam trains."""
    table_of = lambda shape: {"embedding": _noise(shape)}
    model = params(table=table_of((4, 6)))
    odd = {"kernel": _noise(kernel)}, {"table": table_of(table)}
    for path, tree in zip(("kernel", "embedding"), odd):
        given = grads(**{"table": table_of((4, 6)), **tree})
        check_refused(path, {path: lambda given=given: run(library.muon(0.1), model, given)[0]})


@row(33, "gradient of another shape", "error naming the leaf")
def other_shape(library: Library) -> None:
    _check_shapes(library, (12, 8), (6, 4))


@row(34, "gradient (n, 1) for a leaf (n, m)", "error naming the leaf")
def broadcastable(library: Library) -> None:
    """It must not be broadcast."""
    _check_shapes(library, (8, 1), (4, 1))


@row(61, "a gradient of None in one step", "that leaf and its momentum stay, the others move")
def no_gradient(library: Library) -> None:
    shape, tx = (6, 10), library.muon(0.1)
    momentum = lambda state: next(x for x in jax.tree.leaves(state) if x.shape == shape)
    model, given = (of(other={"kernel": jnp.ones(shape)}) for of in (params, grads))
    _, before = run(tx, model, given)
    updates, after = run(tx, model, given, {**given, "other": {"kernel": None}})
    check_kernel(updates)
    update = updates["other"]["kernel"]
    check_close(np.zeros(shape) if update is None else update, np.zeros(shape), 0, "its update")
    check_close(momentum(after), momentum(before), 0, "its momentum")
