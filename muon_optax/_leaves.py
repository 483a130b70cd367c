"""The leaves of a tree by path, and an error that names a leaf.

>>> import jax.numpy as jnp
>>> list(leaves_by_path({"layers": [{"kernel": jnp.ones(2)}]}))
['layers/0/kernel']
"""

from collections import Counter
from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
from jax.tree_util import GetAttrKey, KeyPath


def leaves_by_path(
    tree: Any, is_leaf: Callable[[Any], bool] | None = None, separator: str = "/"
) -> dict[str, Any]:
    """Return path → leaf, in the order of `jax.tree.leaves(tree)`.

    If two leaves share a path, this is an error.
    """
    named = [
        (path_name(path, separator), leaf)
        for path, leaf in jax.tree.leaves_with_path(tree, is_leaf=is_leaf)
    ]
    if len(dict(named)) < len(named):
        double, _ = Counter(name for name, _ in named).most_common(1)[0]
        raise ValueError(f"two leaves share the path {double!r}; rename one of them")
    return dict(named)


def path_name(path: KeyPath, separator: str = "/") -> str:
    """Write `["layers"][0]["kernel"]` as `layers/0/kernel`; drop a Flax variable's `.value`."""
    if path and path[-1] == GetAttrKey("value"):
        path = path[:-1]
    return jax.tree_util.keystr(path, simple=True, separator=separator)


def path_prefixes(name: str) -> list[str]:
    """Return the prefixes of a path: `a/b/c`, `a/b`, `a` and `""` for `a/b/c`."""
    parts = name.split("/") if name else []
    return ["/".join(parts[:length]) for length in range(len(parts), -1, -1)]


class LeafError(ValueError):
    """An error about one leaf of a tree, named by its path, shape and dtype.

    Attributes:
      path: The leaf's path, such as `"layers/0/kernel"`; empty for a bare array.
      paths: The paths of all leaves that have the problem.
    """

    def __init__(self, path: str, leaf: Any, problem: str, paths: Sequence[str] = ()):
        what = f"{type(leaf).__name__} {leaf!r:.60}"
        if hasattr(leaf, "shape") and hasattr(leaf, "dtype"):
            what = f"shape {leaf.shape}, {leaf.dtype}"
        where = f"leaf {path!r}" if path else "the array"
        super().__init__(f"{where} ({what}): {problem}")
        self.path = path
        self.paths = tuple(paths) or (path,)


def check_float_array(name: str, leaf: Any) -> None:
    """Refuse a leaf that cannot be trained, because it is not an array of floats."""
    if not hasattr(leaf, "shape") or not hasattr(leaf, "dtype"):
        raise LeafError(
            name,
            leaf,
            "not an array; pass a tree that has only arrays. For an Equinox model, pass "
            "eqx.filter(model, eqx.is_inexact_array)",
        )
    if not jnp.issubdtype(leaf.dtype, jnp.inexact):
        raise LeafError(
            name,
            leaf,
            "only real or complex floats can be trained; remove this leaf, or freeze it with "
            "optax.partition and optax.set_to_zero",
        )
