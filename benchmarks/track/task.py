"""What a task of the track is: a model, its data and a budget, the same for every entry."""

import zlib
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import jax
import numpy as np
from jax import Array

from benchmarks.track.entry import Settings

Batch = Any  # a tree of arrays


@dataclass(frozen=True, eq=False)
class Task:
    """A model to train, on which data, for how long, and what it is judged on.

    Attributes:
      name: Of its results' folder.
      title: Of its tables.
      steps: The budget.
      eval_every: Steps from one evaluation to the next.
      target: The test loss to which steps are counted; chosen on the tuning data.
      init: `seed → (parameters, constants)`; constants are passed to the loss untrained.
      loss: `(parameters, constants, batch) → mean loss`.
      draw: `(generator, count) → batches`, stacked along a new first axis.
      tuning: The batch that settings are chosen on.
      test: The batch that is reported.
      entries: The entries that take part by default; empty for all.
      start: Factors of the settings that every entry's search starts from, 1 - β for momentum.
    """

    name: str
    title: str
    steps: int
    eval_every: int
    target: float
    init: Callable[[int], tuple[Any, Any]]
    loss: Callable[[Any, Any, Batch], Array]
    draw: Callable[[np.random.Generator, int], Batch]
    tuning: Batch
    test: Batch
    entries: tuple[str, ...] = ()
    start: Settings = Settings(1.0, 1.0, 1.0, 1.0)  # noqa: RUF009 (immutable)

    def fingerprint(self) -> str:
        """A checksum of the data that it is judged on, the same in results to be compared."""
        leaves = jax.tree.leaves((self.tuning, self.test))
        return f"{zlib.crc32(b''.join(np.asarray(leaf).tobytes() for leaf in leaves)):08x}"
