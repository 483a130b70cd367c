"""What a program costs before it runs, as if it were the first one of its process."""

from collections.abc import Callable
from typing import Any

import jax

from muon_optax.estimates._compile import compile_program
from muon_optax.estimates._compile import size_in_bytes as size_in_bytes

jax.config.update("jax_enable_compilation_cache", False)  # what is on disk costs nothing


def compiled(function: Callable, *shapes: Any, donate: tuple[int, ...] = ()):
    """`compile_program` with empty caches, so that the second of equal programs costs, too."""
    jax.clear_caches()
    return compile_program(function, *shapes, donate=donate)
