"""The time of a function on a device that is not here, estimated by the device's compiler."""

from collections.abc import Callable
from dataclasses import dataclass

import jax
from jax.sharding import SingleDeviceSharding

from muon_optax.estimates._compile import compile_program
from muon_optax.estimates._instructions import Program
from muon_optax.estimates._kernels import is_counted, kernels
from muon_optax.estimates._targets import Target


@dataclass(frozen=True)
class Estimate:
    """The costs of a program according to its compiler. Only `compile_s` is measured.

    Attributes:
      seconds: The time of one call; None if unknown.
      temp_bytes: Temporary memory; None if the program was not compiled.
      compile_s: Seconds to compile, or the time limit at which the compiler was stopped.
      note: Why no time is known, or what the estimate leaves out; "" for a complete estimate.
      at_least: Whether the estimate is incomplete, so that the time may be longer.
    """

    seconds: float | None
    temp_bytes: int | None
    compile_s: float
    note: str = ""
    at_least: bool = False


def estimate(function: Callable, shape: jax.ShapeDtypeStruct, target: Target) -> Estimate:
    """Compile a function of one array for a target, and add up the times of its kernels.

    Raises:
      MissingCompiler: If the compiler is missing.
    """
    sharding = SingleDeviceSharding(target.device())
    given = jax.ShapeDtypeStruct(shape.shape, shape.dtype, sharding=sharding)
    executable, costs = compile_program(function, given)
    found = [
        k for k in kernels(Program(executable.as_text() or ""), target) if is_counted(k, target)
    ]
    unit = 1 / target.clock if target.kind == "tpu" and target.clock else 1.0
    seconds = sum((k.times or 1) * (k.estimate or 0.0) for k in found) * unit
    note, at_least = "", any(k.times is None for k in found)
    if any(k.estimate is None for k in found):
        seconds, note = None, "a call of a library, of which nothing is known"
    elif target.kind == "tpu" and target.clock is None:
        seconds, note = None, "the clock of this target is not public"
    elif at_least:
        note = "loops of unknown length count once"
    return Estimate(seconds, costs["temp_bytes"], costs["compile_s"], note, at_least)
