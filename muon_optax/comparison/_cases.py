"""The matrices to compare methods on, grouped by shape, from shapes or from a model."""

import math
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from numbers import Integral
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from muon_optax._leaves import LeafError, leaves_by_path
from muon_optax.dims import Dims, ResolvedDims, check_any_matrix, resolve_once
from muon_optax.planning._parameters import select_parameters

_JUDGED = 3  # matrices of each stack to measure accuracy on


@dataclass(frozen=True)
class Case:
    """Matrices of one shape. Tall matrices are transposed, so that all are wide.

    Attributes:
      count: The number of matrices.
      m: The smaller dimension.
      n: The larger dimension.
      dtype: The dtype of the methods' input.
      momenta: Path → `[batch, m, n]`, without zero matrices; empty for Gaussian matrices.
    """

    count: int
    m: int
    n: int
    dtype: str
    momenta: Mapping[str, np.ndarray] = field(default_factory=dict, hash=False)

    def __str__(self) -> str:
        return f"{self.count} × {self.m}×{self.n}"

    def make(self, count: int) -> np.ndarray:
        """Return `[count, m, n]`, the same at every call. Momenta are repeated as needed."""
        if any(map(len, self.momenta.values())):
            return np.resize(np.concatenate([*self.momenta.values()]), (count, self.m, self.n))
        x = np.random.default_rng(0).standard_normal((count, self.m, self.n), np.float32)
        return x.astype(self.dtype)

    def judged(self) -> Iterator[tuple[str, np.ndarray]]:
        """Yield path and matrix for a few matrices of each leaf."""
        if not self.momenta:
            yield "", self.make(1)[0]
        for path, stack in self.momenta.items():
            for index in np.unique(np.linspace(0, len(stack) - 1, _JUDGED, dtype=int)):
                if len(stack):
                    yield path, stack[index]


def list_cases(matrices: Any, dims: Dims, momenta: Any, dtype: str | None) -> list[Case]:
    """Return the cases for shapes, or for the matrices that `muon` would find in a tree.

    Raises:
      ValueError: If a shape is not one of matrices, if a tree has no matrix, or if the momenta
        do not fit the tree.
    """
    if shapes := _read_shapes(matrices):
        if momenta is not None:
            raise ValueError(
                "`momenta` cannot be combined with shapes; pass a tree of parameters as "
                "`matrices`"
            )
        return _group([("", count, m, n, dtype or "float32", None) for count, m, n in shapes])
    matrices = select_parameters(matrices)
    resolved = resolve_once(dims, matrices)
    check_any_matrix(resolved, matrices)
    given = None if momenta is None else leaves_by_path(momenta)
    return _group([*_stacks_of_tree(leaves_by_path(matrices), resolved, given, dtype)])


def read_shape(text: str) -> tuple[int, int, int]:
    """Read `"768x3072"` or `"12x1024x1024"` as count, m and n."""
    sides = re.split("[x×]", text.strip().lower())
    if not 2 <= len(sides) <= 3 or not all(side.isdecimal() for side in sides):
        use = "use ROWSxCOLUMNS or COUNTxROWSxCOLUMNS, such as 768x3072"
        raise ValueError(f"shape {text!r}; {use}")
    return _check_shape(tuple(map(int, sides)))


def _read_shapes(matrices: Any) -> list[tuple[int, int, int]]:
    """Return all shapes; an empty list for a tree of arrays."""
    if isinstance(matrices, str):
        return [read_shape(matrices)]
    if not isinstance(matrices, list | tuple) or not matrices:
        return []
    if all(isinstance(side, Integral) for side in matrices):
        return [_check_shape(tuple(matrices))]
    if not all(isinstance(shape, str | tuple | list) for shape in matrices):
        return []
    return [read_shape(x) if isinstance(x, str) else _check_shape(x) for x in matrices]


def _check_shape(shape: tuple[int, ...]) -> tuple[int, int, int]:
    """Return a shape with its count. Refuse what is not the shape of matrices."""
    whole = all(isinstance(side, Integral) and side > 0 for side in shape)
    if not 2 <= len(shape) <= 3 or not whole:
        raise ValueError(
            f"shape {'x'.join(map(str, shape))}; use two numbers ≥ 1, or a count before them"
        )
    *counts, m, n = map(int, shape)
    return math.prod(counts), m, n


Stack = tuple[str, int, int, int, str, np.ndarray | None]  # path, count, m, n, dtype, momenta


def _stacks_of_tree(
    leaves: Mapping[str, Any],
    resolved: ResolvedDims,
    momenta: Mapping[str, Any] | None,
    dtype: str | None,
) -> Iterator[Stack]:
    for path, leaf in leaves.items():
        view = resolved.assignments[path].view
        if view is None:
            continue
        if jnp.issubdtype(leaf.dtype, jnp.complexfloating):
            raise LeafError(path, leaf, "only real matrices can be compared; omit this leaf")
        own = jax.dtypes.canonicalize_dtype(leaf.dtype)  # no float64 without jax_enable_x64
        name, stacks = dtype or own.name, [None] * len(view.sides)
        if momenta is not None:
            momentum = _momentum_of(path, leaf, momenta)
            name = dtype or jax.dtypes.canonicalize_dtype(momentum.dtype).name
            stacks = [np.asarray(x) for x in view.to_matrices(jnp.asarray(momentum, name))]
        for (count, m, n), stack in zip(view.sides, stacks):
            if count and m and n:
                yield path, count, m, n, name, stack


def _momentum_of(path: str, leaf: Any, momenta: Mapping[str, Any]) -> np.ndarray:
    """Return the momentum of a leaf, after checking that it fits the leaf and is finite."""
    if path not in momenta:
        known = ", ".join(list(momenta)[:3])
        raise LeafError(path, leaf, f"`momenta` lacks this leaf; its first paths are {known}")
    momentum = np.asarray(momenta[path])
    if momentum.shape != leaf.shape:
        problem = f"its momentum has shape {momentum.shape}; pass a momentum of equal shape"
        raise LeafError(path, leaf, problem)
    if not np.isfinite(momentum).all():  # NumPy's SVD may never return
        problem = "its momentum is not finite; pass the momentum of a step where it is finite"
        raise LeafError(path, leaf, problem)
    return momentum


def _group(stacks: Sequence[Stack]) -> list[Case]:
    """Make one case for all stacks with the same dimensions and dtype."""
    alike: dict[tuple[int, int, str], list[Stack]] = {}
    for stack in stacks:
        _, _, m, n, dtype, _ = stack
        alike.setdefault((min(m, n), max(m, n), dtype), []).append(stack)
    return [
        Case(sum(stack[1] for stack in of_it), m, n, dtype, _momenta(of_it))
        for (m, n, dtype), of_it in alike.items()
    ]


def _momenta(stacks: Sequence[Stack]) -> dict[str, np.ndarray]:
    """Return path → momenta `[batch, m, n]`, with tall matrices transposed.

    The momenta of all parts of a fused leaf are concatenated. Zero matrices are left out,
    because their polar factor is zero. Before the first step, all matrices are zero.
    """
    found: dict[str, list[np.ndarray]] = {}
    for path, _, m, n, _, x in stacks:
        if x is not None:
            nonzero = x[x.any((-2, -1))]
            found.setdefault(path, []).append(nonzero if m <= n else nonzero.mT)
    return {path: np.concatenate(of_it) for path, of_it in found.items()}
