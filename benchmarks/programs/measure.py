"""What one compiled program is: its kernels, memory, copies and costs, as a row of JSON."""

from collections import Counter
from collections.abc import Callable, Sequence
from typing import Any

import jax

from benchmarks.compiled import compiled, size_in_bytes
from benchmarks.programs.flow import Arguments
from benchmarks.programs.kernels import by_kind, copies
from benchmarks.programs.models import Model
from benchmarks.programs.optimizers import UPDATES, polar_program, update_program
from muon_optax.estimates._instructions import Program
from muon_optax.estimates._kernels import Kernel, is_counted, kernels
from muon_optax.estimates._targets import Target

Described = tuple[dict[str, Any], dict[str, list[Kernel]]]  # its row, and its kernels by kind


def update(name: str, model: Model, target: Target) -> Described:
    """A whole update with donated parameters and state."""
    return update_of(UPDATES[name](model), model, target)


def update_of(tx: Any, model: Model, target: Target) -> Described:
    """The same, of any transformation."""
    function, shapes = update_program(tx, model.params, target.device())
    counts = Arguments(*(len(jax.tree.leaves(tree)) for tree in shapes))
    row, found = describe(function, shapes, target, model.smallest, counts, donate=(0, 1))
    parameters, state = map(size_in_bytes, shapes[:2])
    row["temp_over_parameters"] = round(row["temp_bytes"] / parameters, 3)
    row |= {"parameter_bytes": parameters, "state_bytes": state}
    return row, found


def polar(name: str, m: int, n: int, target: Target) -> Described:
    """The polar step of one matrix, alone."""
    function, shapes = polar_program(name, m, n, target.device())
    return describe(function, shapes, target, m * n, None)


def describe(
    function: Callable,
    shapes: Sequence[Any],
    target: Target,
    smallest: int,
    arguments: Arguments | None,
    donate: tuple[int, ...] = (),
) -> Described:
    """Compile, and read the program's text and its memory plan."""
    executable, costs = compiled(function, *shapes, donate=donate)
    program = Program(executable.as_text())
    memory = executable.memory_analysis()
    found = kernels(program, target)
    sorted_kernels = by_kind(found, program, arguments)
    row = {
        "trace_s": round(costs["trace_s"], 2),
        "compile_s": round(costs["compile_s"], 2),
        "hlo_lines": costs["hlo_lines"],
        "temp_bytes": memory.temp_size_in_bytes,
        "aliased_bytes": memory.alias_size_in_bytes,
        "code_bytes": memory.generated_code_size_in_bytes,
        **_sums(found, target),
        "by_kind": {kind: _sums(of_it, target) for kind, of_it in sorted_kernels.items()},
        "copies": copies(found, program, smallest),
        "products": dict(_products(found)),
    }
    return row, sorted_kernels


def _sums(found: Sequence[Kernel], target: Target) -> dict[str, float | None]:
    """Kernels, bytes, operations and estimate; None where a trip count is not known."""
    counted = [kernel for kernel in found if is_counted(kernel, target)]
    if any(kernel.times is None for kernel in found):
        return dict.fromkeys(("kernels", "bytes", "flops", target.unit))
    timed = [kernel.estimate for kernel in counted]
    unknown = target.kind == "cpu" or None in timed
    return {
        "kernels": sum(kernel.times for kernel in counted),
        "bytes": sum(kernel.times * kernel.bytes for kernel in found),
        "flops": sum(kernel.times * kernel.flops for kernel in found),
        target.unit: None if unknown else sum(k.times * k.estimate for k in counted),
    }


def _products(found: Sequence[Kernel]) -> Counter[str]:
    """How many run, by the dtypes."""
    counts: Counter[str] = Counter()
    for kernel in found:
        for product in kernel.products:
            counts[str(product)] += kernel.times or 1
    return counts
