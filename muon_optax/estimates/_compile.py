"""The compilation of a function, and the costs of a program that are known before it runs."""

import time
from collections.abc import Callable
from typing import Any

import jax


def compile_program(function: Callable, *shapes: Any, donate: tuple[int, ...] = ()):
    """Compile a function for arguments of these shapes. Return the program and its costs.

    The costs are the time to compile, the size and the memory. `xla_flops` is XLA's own count
    of operations. XLA counts the body of a loop once, and a call of a library such as LAPACK
    as zero.
    """
    start = time.perf_counter()
    lowered = jax.jit(function, donate_argnums=donate, keep_unused=True).lower(*shapes)
    traced = time.perf_counter()
    program = lowered.compile()
    done = time.perf_counter()
    costs = {
        "trace_s": round(traced - start, 4),
        "compile_s": round(done - traced, 4),
        "hlo_lines": len((program.as_text() or "").splitlines()),
        "temp_bytes": getattr(program.memory_analysis(), "temp_size_in_bytes", 0),
        "xla_flops": (program.cost_analysis() or {}).get("flops"),  # a GPU's compiler has none
    }
    return program, costs


def size_in_bytes(shapes: Any) -> int:
    """Return the bytes of all arrays in a tree."""
    return sum(x.size * x.dtype.itemsize for x in jax.tree.leaves(shapes))
