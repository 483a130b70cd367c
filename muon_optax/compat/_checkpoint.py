"""Checkpoints: a state as a flat dict of its leaves by path, with a version number.

>>> import jax.numpy as jnp
>>> state = {"count": jnp.zeros([]), "mu": {"kernel": jnp.ones((2, 3))}}
>>> list(to_checkpoint(state)["leaves"])
['count', 'mu.kernel']
"""

from collections.abc import Mapping
from typing import Any

import jax
import numpy as np

from muon_optax._leaves import LeafError, leaves_by_path
from muon_optax.batching._resharding import place_like

VERSION = 3


def to_checkpoint(state: Any) -> dict[str, Any]:
    """Convert a state to a flat dict, which can be restored without a template.

    Args:
      state: The state of any optimizer; or its shapes from `jax.eval_shape`, to make a template
        for Orbax.

    Returns:
      `{"version": int32 scalar, "leaves": path → array}`. The parts of a path are joined by
      dots, because checkpointers read slashes as folders.

    Raises:
      ValueError: If two leaves have the same path.

    Example:
      >>> import jax.numpy as jnp
      >>> import optax
      >>> saved = to_checkpoint(optax.trace(0.9).init({"w": jnp.ones((2, 3))}))
      >>> int(saved["version"]), list(saved["leaves"])
      (3, ['trace.w'])
    """
    version = np.asarray(VERSION, np.int32)
    return {"version": version, "leaves": leaves_by_path(state, separator=".")}


def from_checkpoint(saved: Mapping[str, Any], like: Any) -> Any:
    """Restore a state from the dict that `to_checkpoint` made.

    Args:
      saved: The restored dict.
      like: A state of the same optimizer, `tx.init(params)`, or its shapes.

    Returns:
      A state with the structure, dtypes and shardings of `like`. Without a sharding in `like`,
      an array stays on its devices.

    Raises:
      ValueError: If the version is missing or another one, or leaves are missing, unknown or of
        another shape.

    Example:
      >>> import jax.numpy as jnp
      >>> from muon_optax import scale_by_muon
      >>> tx = scale_by_muon()
      >>> state = tx.init({"w": jnp.ones((2, 3))})
      >>> restored = from_checkpoint(to_checkpoint(state), like=state)
      >>> jax.tree.structure(restored) == jax.tree.structure(state)
      True
    """
    _check_version(saved)
    found, expected = saved["leaves"], leaves_by_path(like, separator=".")
    missing, unknown = sorted({*expected} - {*found}), sorted({*found} - {*expected})
    if missing or unknown:
        raise ValueError(
            f"saved by another optimizer: {len(missing)} leaves are missing, such as "
            f"{missing[:3]}, {len(unknown)} are unknown, such as {unknown[:3]}. Pass as `like` "
            "the state of an optimizer with the same settings, or convert what both have with "
            "transfer(saved, like=tx.init(params))"
        )
    for name, leaf in expected.items():
        if found[name].shape != leaf.shape:
            raise LeafError(name, leaf, f"saved with shape {found[name].shape}")
    leaves = [place_like(_with_dtype(found[name], x), x) for name, x in expected.items()]
    return jax.tree.structure(like).unflatten(leaves)


def _with_dtype(x: Any, leaf: Any) -> Any:
    """A saved array in its own dtype; NumPy's files store bfloat16 as bytes without a dtype."""
    return x.view(leaf.dtype) if x.dtype.type is np.void else x


def _check_version(saved: Mapping[str, Any]) -> None:
    advice = "Use transfer(saved, like=tx.init(params)) instead"
    if "version" not in saved or "leaves" not in saved:
        raise ValueError(
            f"saved has {sorted(saved)} and not 'leaves' and 'version', so it is not from "
            f"to_checkpoint. {advice}"
        )
    if (version := int(saved["version"])) != VERSION:
        raise ValueError(f"saved has version {version}; only {VERSION} can be read. {advice}")
