"""The shapes of a model's parameters, from a checkpoint or from a function that makes them."""

import json
import logging
from collections.abc import Callable, Mapping
from importlib import import_module
from pathlib import Path
from typing import Any

import jax
import numpy as np

# The names of dtypes in the header of a safetensors file.
_SAFETENSORS = {"F64": "float64", "F32": "float32", "F16": "float16", "BF16": "bfloat16"}
_SAFETENSORS |= {"F8_E4M3": "float8_e4m3fn", "F8_E5M2": "float8_e5m2"}


def read_tree(name: str) -> Any:
    """Return the shapes of a checkpoint's parameters, or what `module:function` returns.

    If a checkpoint has an entry `params`, only this entry is read. Integers, such as step
    counts, are left out.

    Raises:
      ValueError: If `name` is neither a checkpoint nor a function, or if it cannot be read.
    """
    path = Path(name)
    if not path.exists():
        return _call(name)
    reader = _read_orbax if path.is_dir() else _READERS.get(path.suffix)
    if reader is None:
        known = " or ".join(_READERS)
        raise ValueError(
            f"{name} is of unknown type; use a file {known}, an Orbax folder, or "
            "MODULE:FUNCTION"
        )
    try:
        tree = reader(path)
    except ImportError as error:
        raise ValueError(f"{name} needs Orbax: pip install orbax-checkpoint") from error
    except Exception as error:  # readers raise many types on a file of another format
        raise ValueError(f"{name} cannot be read: {error}") from error
    tree = tree["params"] if isinstance(tree, Mapping) and "params" in tree else tree
    return jax.tree.map(
        lambda x: None if x.dtype.kind in "iub" else jax.ShapeDtypeStruct(x.shape, x.dtype),
        tree,
    )


def _call(name: str) -> Any:
    module, _, attribute = name.partition(":")
    if not attribute:
        raise ValueError(
            f"{name!r} is not a file; pass a checkpoint, or a function as MODULE:FUNCTION"
        )
    try:
        make: Callable[[], Any] = getattr(import_module(module), attribute)
        return make()
    except Exception as error:  # raised by the user's own code
        raise ValueError(f"{name}: {type(error).__name__}: {error}") from error


def _read_npz(path: Path) -> dict[str, np.ndarray]:
    with np.load(path) as arrays:
        return dict(arrays)


def _read_safetensors(path: Path) -> dict[str, jax.ShapeDtypeStruct]:
    """Read the shapes from the header: eight bytes with its length, then JSON."""
    with path.open("rb") as file:
        header = json.loads(file.read(int.from_bytes(file.read(8), "little")))
    return {
        name: jax.ShapeDtypeStruct(entry["shape"], _SAFETENSORS.get(entry["dtype"], "int32"))
        for name, entry in header.items()
        if name != "__metadata__"
    }


def _read_orbax(path: Path) -> Any:
    from orbax import checkpoint

    logging.getLogger("absl").setLevel(logging.ERROR)  # the error below says it briefly
    metadata: Any = checkpoint.StandardCheckpointer().metadata(path.resolve())
    if metadata.item_metadata is None:  # a step of a CheckpointManager
        items = sorted(item.name for item in path.iterdir() if item.is_dir())
        said = f"pass one of its items ({', '.join(items)}), such as {path / items[0]}"
        raise ValueError(said)
    return metadata.item_metadata.tree


_READERS = {".npz": _read_npz, ".safetensors": _read_safetensors}
