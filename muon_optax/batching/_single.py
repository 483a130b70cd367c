"""The polar step on one device: one program for each bucket of the whole tree."""

from collections.abc import Hashable, Sequence
from dataclasses import dataclass
from functools import partial

import jax
import numpy as np
from jax import Array

from muon_optax._platform import by_platform
from muon_optax.batching._bucket import map_by_bucket, polar_bucket
from muon_optax.batching._static import StaticMethod
from muon_optax.dims import MatrixView
from muon_optax.polar._method import PolarMethod, batched


@dataclass(frozen=True)
class SingleDeviceMap:
    """A method over the matrices of many leaves, on the device where these are.

    `max_bytes` is that of `polar_bucket`.
    """

    method: PolarMethod
    max_bytes: int | None = None

    def map(self, leaves: Sequence[Array], views: Sequence[MatrixView]) -> list[Array]:
        """The polar factors of all matrices, in the leaves' shapes and dtypes."""
        stacks, treedef = jax.tree.flatten([v.to_matrices(x) for v, x in zip(views, leaves)])
        polar = partial(_polar_bucket, StaticMethod(self.method), self.max_bytes)
        polars = treedef.unflatten(map_by_bucket(polar, self._bucket_key, stacks))
        return [v.from_matrices(ys, x.shape) for v, ys, x in zip(views, polars, leaves)]

    def _bucket_key(self, m: int, n: int, dtype: np.dtype) -> Hashable:
        """Equal for stacks that share a call on every platform: it is not known yet."""
        plan = batched(self.method).plan
        return plan(m, n, dtype, "cpu").bucket, plan(m, n, dtype, "accelerator").bucket


# An eager step finds its program again: by the method's value, not by a function's identity.
@partial(jax.jit, static_argnums=(0, 1))
def _polar_bucket(
    static: StaticMethod, max_bytes: int | None, stacks: Sequence[Array]
) -> list[Array]:
    return by_platform(partial(polar_bucket, batched(static.method), max_bytes), stacks)
