"""The shardings of a training run on a mesh: of parameters and of a batch.

Parameters are sharded along `fsdp`, attention heads and hidden units along `tensor`, and both
are replicated along `data`. A batch is sharded along `data` and `fsdp`.
"""

import math
from typing import Any

import jax
import numpy as np
from jax.sharding import AxisType, Mesh, NamedSharding, PartitionSpec

AXES = ("data", "fsdp", "tensor")
ROWS = ("data", "fsdp")  # the axes along which a batch is sharded
# Kernel → its axis of heads or hidden units, so that a block sums over `tensor` only twice.
TENSOR = {"query": 1, "key": 1, "value": 1, "out": 0, "up": 1, "down": 0}


def make_mesh(given: str) -> Mesh:
    """A mesh of all devices, such as `"data=4,fsdp=2"`; of the first device for `""`."""
    alone = not given and jax.process_count() == 1
    devices = jax.devices()[:1] if alone else jax.devices()
    parts = [part.partition("=") for part in given.split(",") if given]
    sizes = {name: int(n) for name, _, n in parts if name in AXES and n.isdecimal()}
    if len(sizes) < len(parts) or math.prod(sizes.values()) != len(devices):
        raise ValueError(
            f"mesh={given!r} for {len(devices)} devices; use data, fsdp, tensor, each at most "
            f"once, with sizes whose product is {len(devices)}, such as 'data={len(devices)}'"
        )
    shape = tuple(sizes.get(name, 1) for name in AXES)
    return jax.make_mesh(shape, AXES, (AxisType.Auto,) * len(AXES), devices=devices)


def parameter_shardings(mesh: Mesh, params: Any) -> Any:
    """The sharding of every parameter: along tensor by role, along fsdp by its largest axis."""

    def of_one(path, x):
        name = jax.tree_util.keystr(path, simple=True, separator=".")
        spec = [None] * len(x.shape)
        for axis in (axis for role, axis in TENSOR.items() if f".{role}.kernel" in name):
            _check("tensor", mesh.shape["tensor"], x.shape[axis], f"axis {axis} of {name}")
            spec[axis] = "tensor"
        left = [
            axis
            for axis, size in enumerate(x.shape)
            if spec[axis] is None and size % mesh.shape["fsdp"] == 0
        ]
        if left:
            spec[max(left, key=lambda axis: x.shape[axis])] = "fsdp"
        return NamedSharding(mesh, PartitionSpec(*spec))

    return jax.tree.map_with_path(of_one, params)


def batch_sharding(mesh: Mesh, shape: tuple[int, ...]) -> NamedSharding:
    """The sharding of windows `[..., batch, length]`."""
    parts = math.prod(mesh.shape[name] for name in ROWS)
    _check("data times fsdp", parts, shape[-2], "the batch")
    return NamedSharding(mesh, PartitionSpec(*[None] * (len(shape) - 2), ROWS, None))


def compiler_options(platform: str) -> dict[str, bool] | None:
    """Options for `jax.jit`, with which a TPU computes while matrices travel, as a GPU does."""
    return {"xla_tpu_enable_async_all_to_all": True} if platform == "tpu" else None


def distribute(x: Any, sharding: NamedSharding) -> jax.Array:
    """Shard an array that every process has."""
    x = np.asarray(x)
    return jax.make_array_from_callback(x.shape, sharding, lambda index: x[index])


def _check(axes: str, parts: int, size: int, what: str) -> None:
    if size % parts:
        raise ValueError(
            f"the mesh has {axes}={parts}, which does not divide {what} of size {size}; "
            f"use a divisor of {size}"
        )
