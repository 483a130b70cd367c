"""Trees of matrices on a mesh, and optimizers compiled for them."""

import math
from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
import optax
from jax.sharding import AxisType, NamedSharding
from jax.sharding import PartitionSpec as P
from jax.stages import Compiled

from muon_optax import NewtonSchulz, muon

RATE = 1.0
OURS, OPTAX = "muon", "optax.contrib.muon"
METHOD = NewtonSchulz(compute_dtype="float32")


@dataclass(frozen=True)
class Layout:
    """A tree of matrices, and a mesh that cuts all of them alike.

    Attributes:
      mesh: Axis → size.
      spec: Of every leaf.
      shapes: Of float32, `[in, out]` or `[layers, in, out]`.
    """

    mesh: dict[str, int]
    spec: P
    shapes: Any

    @property
    def devices(self) -> int:
        """How many it takes."""
        return math.prod(self.mesh.values())

    @property
    def sharding(self) -> NamedSharding:
        """On as many devices of this process as it takes, the mesh's axes automatic."""
        devices = jax.devices()[: self.devices]
        types = (AxisType.Auto,) * len(self.mesh)
        sizes, names = tuple(self.mesh.values()), tuple(self.mesh)
        mesh = jax.make_mesh(sizes, names, axis_types=types, devices=devices)
        return NamedSharding(mesh, self.spec)

    @property
    def dims(self) -> Any:
        """What the leaves are, for ours."""
        return jax.tree.map(lambda x: "in out" if x.ndim == 2 else "layers in out", self.shapes)


def optimizers(
    layout: Layout, method: NewtonSchulz = METHOD, spread: bool = True
) -> dict[str, optax.GradientTransformation]:
    """Ours and Optax's; the same method, momentum and shape factor."""
    shardings = layout.sharding if spread else None
    numbers = jax.tree.map(
        lambda x: optax.contrib.MuonDimensionNumbers(x.ndim - 2, x.ndim - 1), layout.shapes
    )
    return {
        OURS: muon(RATE, method, dims=layout.dims, shardings=shardings),
        OPTAX: optax.contrib.muon(RATE, muon_weight_dimension_numbers=numbers),
    }


def compiled(
    layout: Layout,
    tx: optax.GradientTransformation,
    spread: bool = True,
    options: dict | None = None,
) -> Compiled:
    """`tx.update` for gradients, state and parameters in that layout, or on one device.

    Shapes are enough: no array is made, so that models of any size can be compiled.
    """
    sharding = layout.sharding if spread else None
    cut = {x.shape for x in jax.tree.leaves(layout.shapes)}

    def placed(x: jax.ShapeDtypeStruct) -> jax.ShapeDtypeStruct:
        where = sharding if x.shape in cut else None  # counters are left to XLA
        return jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=where)

    state = jax.eval_shape(tx.init, layout.shapes)
    params, state = jax.tree.map(placed, (layout.shapes, state))
    update = jax.jit(tx.update, out_shardings=(sharding, None) if spread else None)
    return update.lower(params, state, params).compile(compiler_options=options)


def matrices(layers: int, sides: dict[str, tuple[int, int]], stacked: bool = False) -> dict:
    """A leaf for each matrix of each layer, or one for all layers as a scan over them has."""
    if stacked:
        return {name: _float32(layers, *side) for name, side in sides.items()}
    layer = {name: _float32(*side) for name, side in sides.items()}
    return {f"layer{i}": layer for i in range(layers)}


def gpt_sides(width: int) -> dict[str, tuple[int, int]]:
    """The matrices of one layer: four squares, one wide, one tall."""
    squares = dict.fromkeys(("query", "key", "value", "out"), (width, width))
    return squares | {"up": (width, 4 * width), "down": (4 * width, width)}


def layouts(width: int) -> dict[str, Layout]:
    """Those on eight devices that are measured: of 24 matrices, where nothing else is said."""
    apart, stacked = (matrices(4, gpt_sides(width), stacked) for stacked in (False, True))
    eight = matrices(8, gpt_sides(width), stacked=True)
    dozen, lone = matrices(12, {"up": (width, 4 * width)}), {"up": _float32(width, 8 * width)}
    fsdp = {"fsdp": 8}
    return {
        "DDP": Layout({"data": 8}, P(), apart),
        "FSDP, axis 0": Layout(fsdp, P("fsdp"), apart),
        "FSDP, axis 1": Layout(fsdp, P(None, "fsdp"), apart),
        "FSDP, layers stacked": Layout(fsdp, P(None, "fsdp"), stacked),
        "FSDP × TP, 4 × 2": Layout({"fsdp": 4, "tensor": 2}, P("fsdp", "tensor"), apart),
        "HSDP, 2 × 4": Layout({"data": 2, "fsdp": 4}, P("fsdp"), apart),
        "8 stacked layers, cut by layer": Layout(fsdp, P("fsdp"), eight),
        "FSDP, 12 matrices": Layout(fsdp, P("fsdp"), dozen),
        "FSDP, one matrix, long side cut": Layout(fsdp, P(None, "fsdp"), lone),
        "FSDP, one matrix, short side cut": Layout(fsdp, P("fsdp"), lone),
    }


def _float32(*shape: int) -> jax.ShapeDtypeStruct:
    return jax.ShapeDtypeStruct(shape, jnp.float32)
