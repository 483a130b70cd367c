"""Updates of large models, compiled for meshes that are not there: what they move, and when.

What is sent and how much memory a device needs are facts of the program. Times are models: the
kernels' is XLA's estimate on a TPU and a roofline on a GPU, the wire's is that of `machines`.
"""

import math
import time
from collections.abc import Callable
from functools import partial
from typing import Any

import jax
import numpy as np
import optax
from jax.sharding import AxisType, Mesh, NamedSharding, PartitionSpec
from jax.stages import Compiled, Lowered
from mesh import compiler_options

from benchmarks.hlo import count, flops
from benchmarks.optimizers import apply
from benchmarks.scaling.machines import WIRES
from benchmarks.scaling.models import Case
from benchmarks.scaling.schemes import METHOD, ours
from benchmarks.schedule import Schedule, schedule
from benchmarks.sharding.layouts import OPTAX, OURS, RATE, optimizers
from muon_optax import muon
from muon_optax.estimates._targets import Target

CASES = (
    Case("one 4096×11008", {"fsdp": (2, 2, 2)}),
    Case("GPT-2 XL", {"fsdp": (2, 2, 2)}),
    Case("Llama 7B", {"fsdp": (4, 4, 4)}),
    Case("Llama 70B", {"fsdp": (8, 8, 4)}),
)
KNOWN = ("v5p", "h100")  # targets that have such meshes


def topology(target: Target, torus: dict[str, tuple[int, ...]]) -> str:
    """What the compiler calls the devices of such a mesh; GPUs are in nodes of eight."""
    sides = [side for sides in torus.values() for side in sides]
    if target.kind == "gpu":
        size = math.prod(sides)
        sides = [1, max(1, size // 8), min(size, 8)]
    return "x".join(map(str, sides))


def mesh_of(target: Target, torus: dict[str, tuple[int, ...]]) -> Mesh:
    """A mesh whose axes have these parts of a torus, or as many GPUs."""
    sizes = [math.prod(sides) for sides in torus.values()]
    devices = target.devices(topology(target, torus))
    if target.kind == "tpu":  # along the last side at first, as `machines` counts them
        devices = sorted(devices, key=lambda device: device.coords)
    return Mesh(
        np.array(devices).reshape(sizes), [*torus], axis_types=(AxisType.Auto,) * len(sizes)
    )


def lower(
    tx: optax.GradientTransformation,
    params: Any,
    shardings: Any,
    gradient: Callable[[Any, Any], Any] | None = None,
    batch: Any = None,
) -> Lowered:
    """A whole update in place, or a training step.

    Args:
      tx: An optimizer whose state has arrays as large as parameters, and counters.
      params: Shapes are enough, so that models of any size can be compiled.
      shardings: Of all parameters, on one mesh.
      gradient: Of parameters and batch. Without it the gradients are an argument.
      batch: Shapes with shardings.
    """
    leaves = jax.tree.leaves(shardings)
    cuts = {x.shape: cut for x, cut in zip(jax.tree.leaves(params), leaves, strict=True)}
    everywhere = NamedSharding(leaves[0].mesh, PartitionSpec())

    def place(x: jax.ShapeDtypeStruct) -> jax.ShapeDtypeStruct:
        sharding = cuts.get(x.shape, everywhere)
        return jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=sharding)

    def step(params: Any, state: Any, given: Any) -> tuple[Any, Any]:
        return apply(tx, params, state, gradient(params, given) if gradient else given)

    state = jax.eval_shape(tx.init, params)
    params, state = jax.tree.map(place, (params, state))
    out = jax.tree.map(lambda x: x.sharding, (params, state))
    compiled = jax.jit(step, donate_argnums=(0, 1), out_shardings=out)
    return compiled.lower(params, state, batch if gradient else params)


def schedule_of(text: str, target: Target, torus: dict[str, tuple[int, ...]]) -> Schedule:
    """A program's schedule on a mesh whose axes have these parts of a torus."""
    return schedule(text, target, partial(WIRES[target.name].seconds, torus=torus))


def measured(case: Case, name: str, target: Target) -> dict[str, Any]:
    """A row of the table, or what the compiler says of a program that no device can hold."""
    try:
        return measure(case, name, target)
    except jax.errors.JaxRuntimeError as error:
        return {"failed": f"{error}".partition(". ")[0]}


def measure(case: Case, name: str, target: Target) -> dict[str, Any]:
    """Compile an optimizer's update of a model; a row of the table."""
    sharding = NamedSharding(mesh_of(target, case.torus), case.layout.spec)
    start = time.perf_counter()
    lowered = lower(
        _optimizer(name, case, sharding),
        case.layout.shapes,
        jax.tree.map(lambda _: sharding, case.layout.shapes),
    )
    traced = time.perf_counter()
    program = lowered.compile(compiler_options(target.kind))
    done = time.perf_counter()
    row = {"trace_s": round(traced - start, 2), "compile_s": round(done - traced, 2)}
    row |= _memory(program) | _described(program.as_text(), target, case)
    if name == OURS:
        step = ours(case, target.kind)
        row["by_formula"] = {
            "received": step.received,
            "flops": step.branches,
            "fillers": step.fillers,
        }
    return row


def _optimizer(name: str, case: Case, sharding: NamedSharding) -> optax.GradientTransformation:
    if name == OURS:
        return muon(RATE, METHOD, dims=case.layout.dims, shardings=sharding)
    return optimizers(case.layout, METHOD, spread=False)[OPTAX]


def _memory(program: Compiled) -> dict[str, int]:
    """Of each device, in bytes."""
    memory = program.memory_analysis()
    return {
        "argument_bytes": memory.argument_size_in_bytes,
        "temp_bytes": memory.temp_size_in_bytes,
    }


def _described(text: str, target: Target, case: Case) -> dict[str, Any]:
    found = schedule_of(text, target, case.torus)
    moved = [transfer.moved for transfer in found.transfers]
    return {
        "collectives": count(moved),
        "received": sum(one.received for one in moved),
        "flops": flops(text),
        "asynchronous": sum(transfer.is_async for transfer in found.transfers),
        "hidden": [round(transfer.hidden, 3) for transfer in found.transfers],
        "computing_s": found.computing,
        "wire_s": found.wire,
        "waiting_s": found.waiting,
    }
