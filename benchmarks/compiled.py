"""What a program costs before it runs: tracing, compilation and memory."""

import time
from collections.abc import Callable
from typing import Any

import jax

jax.config.update("jax_enable_compilation_cache", False)  # what is on disk costs nothing


def compiled(function: Callable, *shapes: Any, donate: tuple[int, ...] = ()):
    """The program for arguments of these shapes, and its costs.

    Nothing that an earlier program left in JAX's caches is used, or the second of two equal
    programs would cost nothing. `xla_flops` is XLA's own count of the optimised program: it
    takes the body of a loop once, and a call of a library (LAPACK) for nothing.
    """
    jax.clear_caches()
    start = time.perf_counter()
    lowered = jax.jit(function, donate_argnums=donate, keep_unused=True).lower(*shapes)
    traced = time.perf_counter()
    program = lowered.compile()
    done = time.perf_counter()
    costs = {
        "trace_s": round(traced - start, 4),
        "compile_s": round(done - traced, 4),
        "hlo_lines": len(program.as_text().splitlines()),
        "temp_bytes": program.memory_analysis().temp_size_in_bytes,
        "xla_flops": (program.cost_analysis() or {}).get("flops"),  # a GPU's compiler has none
    }
    return program, costs


def size_in_bytes(shapes: Any) -> int:
    """Of all arrays of a tree."""
    return sum(x.size * x.dtype.itemsize for x in jax.tree.leaves(shapes))
