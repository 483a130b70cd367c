"""Knows Newton-Schulz: an odd polynomial of any degree, applied to matrices by products."""

import functools
import itertools
import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import get_args

import jax
import jax.numpy as jnp
from jax import Array
from jax.typing import ArrayLike, DTypeLike

from muon_optax.checks import check_number
from muon_optax.coefficients import JORDAN, Coefficients, Schedule, find_family
from muon_optax.polar.arrays import check_matrix, product
from muon_optax.polar.normalize import Normalization, normalized
from muon_optax.polynomials import Stage


@dataclass(frozen=True)
class NewtonSchulz:
    """`x ↦ c0·x + c1·(x·xᴴ)·x + c2·(x·xᴴ)²·x + …`, `steps` times, after normalisation.

    Each step moves every singular value by the family's scalar map and leaves the singular
    vectors alone. The matrix is first scaled by an exact power of two and normalised in
    float32 or wider, so the result does not depend on the scale of the input, from the
    smallest normal to the largest finite number; zero stays zero. Products run in
    `compute_dtype`, accumulated in float32 or wider, at the highest precision.

    Attributes:
      coefficients: The family, or its name in `FAMILIES`.
      steps: How many stages, q in the paper.
      normalize: The bound of the largest singular value by which x is divided.
        `"frobenius"`: `‖x‖_F`. `"schatten4"`: `‖x·xᴴ‖_F^(1/2)`, a tighter bound, for one
        more product. `"aol"`: rows (of the wide side) rescaled by `(Σ_j |x·xᴴ|_ij)^(-1/2)`,
        which moves the polar factor itself. `"paper"`: `max(1, ‖x‖_F)`, as in Algorithm 1;
        not scale-invariant.
      eps: Added to `‖x‖_F`, in units of x; with `"frobenius"` only. The default 0 keeps the
        result scale-invariant; other libraries use 1e-7 or 1e-8.
      compute_dtype: `"float16"`, `"bfloat16"`, `"float32"` or `"float64"` for the products;
        None stands for the input's dtype, but at least float32. Complex input keeps its
        own precision.

    Raises:
      ValueError: If the family or normalisation is unknown, `steps` is not positive or
        exceeds a fixed family, `eps` is negative or not for this normalisation, or
        `compute_dtype` is no float.

    Example:
      >>> x = jnp.diag(jnp.array([3.0, 2.0, 1.0]))
      >>> NewtonSchulz("polar_express", steps=8).polar(x).diagonal().round(3).tolist()
      [1.0, 1.0, 1.0]

    Source: Kim & Oh, arXiv 2601.19156, Algorithm 1 and Definition 2; the default family is
    Jordan et al. 2024.
    """

    coefficients: Coefficients | str = JORDAN
    steps: int = 5
    normalize: Normalization = "frobenius"
    eps: float = 0.0
    compute_dtype: DTypeLike | None = None

    def __post_init__(self):
        # A name and the family it names are one configuration: equal, and one jit key.
        object.__setattr__(self, "coefficients", find_family(self.coefficients))
        self.schedule  # noqa: B018 (raises where steps do not fit)
        if self.normalize not in get_args(Normalization):
            raise ValueError(
                f"normalize={self.normalize!r}; use one of {get_args(Normalization)}"
            )
        check_number("eps", self.eps, "a number ≥ 0", lambda eps: eps >= 0)
        if self.eps and self.normalize != "frobenius":
            raise ValueError(
                f"eps={self.eps} with normalize={self.normalize!r}; use eps=0 or 'frobenius'"
            )
        if self.compute_dtype is not None:
            object.__setattr__(self, "compute_dtype", _float_name(self.compute_dtype))

    @property
    def schedule(self) -> Schedule:
        """The stages that `polar` applies, first to last."""
        return find_family(self.coefficients).schedule(self.steps)

    @functools.partial(jax.jit, static_argnums=0)
    def polar(self, x: Array) -> Array:
        """Apply the schedule to every matrix of a batch.

        Args:
          x: `[..., m, n]`, wide or tall, real or complex, of any float dtype.

        Returns:
          The same shape and dtype.

        Raises:
          ValueError: If x has fewer than two axes or is not of floats.
        """
        check_matrix(x)
        if x.size == 0:
            return x
        tall = x.shape[-2] > x.shape[-1]
        y = normalized(x.mT if tall else x, self.normalize, self.eps)
        if self.compute_dtype is not None and not jnp.iscomplexobj(y):
            y = y.astype(self.compute_dtype)
        # Scanned, not unrolled: XLA then reuses x's buffer, one less of the size of all
        # matrices, at the same speed and compile time (`muon, unrolled` in benchmarks/step.py).
        for _, stages in itertools.groupby(self.schedule, key=len):
            y, _ = jax.lax.scan(_step, y, _columns(stages, y.dtype))
        y = y.astype(x.dtype)
        return y.mT if tall else y


def _float_name(dtype: DTypeLike) -> str:
    """The name of a real float dtype: hashable, and survives JSON."""
    try:
        name = jnp.dtype(dtype).name
    except TypeError:
        name = repr(dtype)
    allowed = ("float16", "bfloat16", "float32", "float64")
    if name not in allowed:
        raise ValueError(f"compute_dtype={dtype!r}; use None or one of {allowed}")
    return name


def apply_stage(stage: Sequence[ArrayLike], x: Array) -> Array:
    """One stage, `c0·x + (c1·a + … + c_κ·a^κ)·x` with `a = x·xᴴ`, rounded once."""
    linear, *higher = stage
    y = jnp.multiply(linear, x.astype(jnp.promote_types(x.dtype, jnp.float32)))
    if higher:
        gram = product(x, x.mT.conj()).astype(x.dtype)
        y += product(_polynomial(higher, gram), x)
    return y.astype(x.dtype)


def _step(x: Array, stage: Sequence[Array]) -> tuple[Array, None]:
    return apply_stage(stage, x), None


def _columns(stages: Iterable[Stage], dtype: DTypeLike) -> tuple[Array, ...]:
    """Per power the coefficients of all stages, in the real dtype that products have."""
    real = jnp.finfo(jnp.promote_types(dtype, jnp.float32)).dtype
    return tuple(jnp.array(column, real) for column in zip(*stages))


def _polynomial(coefficients: Sequence[ArrayLike], a: Array) -> Array:
    """`c1·a + … + c_κ·a^κ` with the fewest products, by Paterson-Stockmeyer."""
    # Powers up to w = ⌈√κ⌉, then Horner's rule in a^w: w - 1 products and one per further
    # block of w terms.
    width = math.isqrt(len(coefficients) - 1) + 1
    powers = [a]
    while len(powers) < width:
        powers.append(product(a, powers[-1]).astype(a.dtype))
    starts = range(0, len(coefficients), width)
    blocks = [_combination(coefficients[i : i + width], powers) for i in starts]
    total = blocks.pop()
    while blocks:
        total = blocks.pop() + product(powers[-1], total.astype(a.dtype))
    return total.astype(a.dtype)


def _combination(coefficients: Sequence[ArrayLike], powers: list[Array]) -> Array:
    wide = jnp.promote_types(powers[0].dtype, jnp.float32)
    terms = [jnp.multiply(c, power.astype(wide)) for c, power in zip(coefficients, powers)]
    return functools.reduce(jnp.add, terms)
