"""Checkpoints: a state as a flat dict of its leaves by path, with a version number.

>>> import jax.numpy as jnp
>>> state = {"count": jnp.zeros([]), "mu": {"kernel": jnp.ones((2, 3))}}
>>> list(to_checkpoint(state)["leaves"])
['count', 'mu.kernel']
"""

from collections.abc import Mapping, Sequence
from typing import Any

import jax
import numpy as np

from muon_optax._leaves import LeafError, leaves_by_path
from muon_optax.batching._resharding import place_like

VERSION = 3


def to_checkpoint(state: Any) -> dict[str, Any]:
    """Convert a state to a flat dict, which can be restored without a template.

    Args:
      state: The state of any optimizer. To make a template for Orbax, pass the state's shapes
        from `jax.eval_shape`.

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
      A state with the structure, dtypes and shardings of `like`. If a leaf of `like` has
      no sharding, its array stays on its current devices.

    Raises:
      ValueError: If the version is missing or is not the current one, or if leaves are missing,
        unknown or of a different shape.

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
        raise ValueError(_mismatch_message(missing, unknown))
    for name, leaf in expected.items():
        if found[name].shape != leaf.shape:
            raise LeafError(name, leaf, f"it was saved with shape {found[name].shape}")
    leaves = [place_like(_with_dtype(found[name], x), x) for name, x in expected.items()]
    return jax.tree.structure(like).unflatten(leaves)


def _mismatch_message(missing: Sequence[str], unknown: Sequence[str]) -> str:
    """Describe the leaves that only one of `saved` and `like` has."""
    count = lambda names: "1 leaf" if len(names) == 1 else f"{len(names)} leaves"
    found = []
    if missing:
        found.append(f"it lacks {count(missing)} of `like`, such as {missing[:3]}")
    if unknown:
        found.append(f"it has {count(unknown)} that `like` lacks, such as {unknown[:3]}")
    return (
        f"`saved` is the state of another optimizer: {', and '.join(found)}. Pass as `like` "
        "the state of an optimizer with the same settings. Or keep only the moments that both "
        "have: transfer(saved, like=tx.init(params))"
    )


def _with_dtype(x: Any, leaf: Any) -> Any:
    """Restore a saved array's dtype: NumPy's files store bfloat16 as bytes without a dtype."""
    return x.view(leaf.dtype) if x.dtype.type is np.void else x


def _check_version(saved: Mapping[str, Any]) -> None:
    advice = "Use transfer(saved, like=tx.init(params)) instead"
    if "version" not in saved or "leaves" not in saved:
        raise ValueError(
            f"`saved` has the keys {sorted(saved)}, not 'leaves' and 'version', so it is not "
            f"from to_checkpoint. {advice}"
        )
    if (version := int(saved["version"])) != VERSION:
        raise ValueError(
            f"`saved` has version {version}, but only version {VERSION} can be read. {advice}"
        )
