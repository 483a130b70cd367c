"""Knows how a state is saved: its leaves by path, beside the version of their meaning."""

from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from muon_optax._leaves import LeafError

VERSION = 1


def to_checkpoint(state: Any) -> dict[str, Any]:
    """A state as a flat dict, which says what it is and is restored without a template.

    Args:
      state: Of any optimizer; from `jax.eval_shape`, to tell Orbax shapes and shardings.

    Returns:
      `{"version": int32 scalar, "leaves": path → array}`.

    Raises:
      ValueError: If two leaves have one path.

    Example:
      >>> from muon_optax import scale_by_muon
      >>> saved = to_checkpoint(scale_by_muon().init({"w": jnp.ones((2, 3))}))
      >>> int(saved["version"]), list(saved["leaves"])
      (1, ['count', 'mu.w'])
    """
    return {"version": np.asarray(VERSION, np.int32), "leaves": _leaves(state)}


def from_checkpoint(saved: Mapping[str, Any], like: Any) -> Any:
    """The state that was saved.

    Args:
      saved: What `to_checkpoint` made, as restored.
      like: A state of the optimizer that made it, `tx.init(params)`, or its shapes.

    Returns:
      A state of the structure and dtypes of `like`.

    Raises:
      ValueError: If there is no version or another, or leaves are missing or unknown; it says
        what to do.
      LeafError: If a leaf was saved with another shape; a `ValueError` too.

    Example:
      >>> from muon_optax import scale_by_muon
      >>> tx = scale_by_muon()
      >>> state = tx.init({"w": jnp.ones((2, 3))})
      >>> restored = from_checkpoint(to_checkpoint(state), like=state)
      >>> jax.tree.structure(restored) == jax.tree.structure(state)
      True
    """
    if "version" not in saved or "leaves" not in saved:
        raise ValueError(
            f"no version among {sorted(saved)}: this was not saved by to_checkpoint. Restore "
            "it into the state of the optimizer that made it, then transfer(state, "
            "tx.init(params))"
        )
    if (version := int(saved["version"])) != VERSION:
        raise ValueError(
            f"saved as version {version}, this release reads {VERSION}. Restore it with the "
            "release that saved it, and carry it over as CHANGELOG.md says for that version"
        )
    found, expected = saved["leaves"], _leaves(like)
    missing, unknown = sorted({*expected} - {*found}), sorted({*found} - {*expected})
    if missing or unknown:
        raise ValueError(
            f"another optimizer saved this: {len(missing)} leaves are missing, such as "
            f"{missing[:3]}, {len(unknown)} unknown, such as {unknown[:3]}. Pass the state of "
            "that optimizer (its dims, fallback, schedules, record_every, on_nonfinite) as "
            "like, then transfer(state, tx.init(params))"
        )
    for name, leaf in expected.items():
        if found[name].shape != leaf.shape:
            raise LeafError(name, leaf, f"it was saved with shape {found[name].shape}")
    leaves = [jnp.asarray(found[name], leaf.dtype) for name, leaf in expected.items()]
    return jax.tree.structure(like).unflatten(leaves)


def _leaves(state: Any) -> dict[str, Any]:
    """By path, in the order of the tree. Slashes would be folders to a checkpoint."""
    named = [
        (jax.tree_util.keystr(path, simple=True, separator="."), leaf)
        for path, leaf in jax.tree.leaves_with_path(state)
    ]
    if len(dict(named)) < len(named):
        raise ValueError(f"two leaves have one path among {[name for name, _ in named]}")
    return dict(named)
