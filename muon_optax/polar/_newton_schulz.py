"""Knows Newton-Schulz: an odd polynomial of any degree, applied to matrices by products."""

import functools
import itertools
from collections.abc import Hashable, Sequence
from dataclasses import dataclass
from typing import get_args

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array, lax
from jax.typing import DTypeLike

from muon_optax._checks import check_number
from muon_optax._polynomials import power_products
from muon_optax.batching._bucket import call_once
from muon_optax.coefficients import JORDAN, Coefficients, Schedule, find_family
from muon_optax.polar._gram import gram_factor
from muon_optax.polar._linalg import check_matrix, product, scaled
from muon_optax.polar._normalization import Normalization, norm_bound
from muon_optax.polar._segments import Form, PolarPlan, segments
from muon_optax.polar._stability import flaw, remedy


@dataclass(frozen=True)
class NewtonSchulz:
    """`x ↦ c0·x + c1·(x·xᴴ)·x + c2·(x·xᴴ)²·x + …`, `steps` times, after normalisation.

    Each step moves every singular value by the family's scalar map and leaves the singular
    vectors alone. The matrix is first scaled by an exact power of two, so the result does not
    depend on the scale of the input, from the smallest normal to the largest finite number;
    zero stays zero.

    One polynomial, two ways to evaluate it: the direct form makes the Gram matrix x·xᴴ anew at
    every step; the Gram form carries it on, and touches x only at the ends, which takes fewer
    operations above an aspect ratio of 1.5. `plan` says what is done.

    Attributes:
      coefficients: The family, or its name in `FAMILIES`.
      steps: How many stages, q in the paper, at most 99: all are unrolled.
      normalize: The bound of the largest singular value by which x is divided, read off the
        first Gram matrix. `"frobenius"`: `‖x‖_F`. `"schatten4"`: `‖x·xᴴ‖_F^(1/2)`, which is
        tighter. `"aol"`: rows (of the wide side) rescaled by `(Σ_j |x·xᴴ|_ij)^(-1/2)`, which
        moves the polar factor itself. `"spectral"`: `‖x‖_op`, by an SVD of the Gram matrix,
        which costs more than the steps it may save. `"paper"`: `max(1, ‖x‖_F)`, as in
        Algorithm 1; not scale-invariant.
      eps: Added to `‖x‖_F` or `‖x‖_op`, in units of x; with `"frobenius"` and `"spectral"`
        only. The default 0 keeps the result scale-invariant; other libraries use 1e-7 or 1e-8.
      form: `"direct"`, `"gram"`, or `"auto"` for the cheaper. The Gram form makes a new Gram
        matrix where its rounding errors would otherwise show; see `polar.plan`.
      compute_dtype: Of the products' operands, which accumulate in float32 or wider:
        `"float16"`, `"bfloat16"`, `"float32"` (never TF32) or `"float64"`; `"input"` for the
        dtype of x, float32 at least. None stands for
        float32 where JAX's default backend is a CPU, for bfloat16 where it is an accelerator
        and the schedule bears its roundings (`"cans"` and `"polar_express"` do not).
        With None float64 input keeps its precision, and complex input always does. float64
        needs `jax_enable_x64`.

    Raises:
      ValueError: If the family, normalisation or form is unknown, `steps` is not positive or
        exceeds a fixed family, `eps` is negative or not for this normalisation,
        `compute_dtype` is none of these, or the schedule turns the sign of singular values in
        (0, 1] or takes them far from 1, rounding of the operands included.

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
    form: Form = "auto"
    compute_dtype: DTypeLike | None = None

    def __post_init__(self):
        # A name and the family it names are one configuration: equal, and one jit key.
        object.__setattr__(self, "coefficients", find_family(self.coefficients))
        if isinstance(self.steps, int) and self.steps > 99:
            raise ValueError(f"steps={self.steps}; use at most 99, all of which are unrolled")
        self.schedule  # noqa: B018 (raises where steps do not fit)
        for name, kind in (("normalize", Normalization), ("form", Form)):
            if getattr(self, name) not in get_args(kind):
                raise ValueError(f"{name}={getattr(self, name)!r}; use one of {get_args(kind)}")
        check_number("eps", self.eps, "a number ≥ 0", lambda eps: eps >= 0)
        if self.eps and self.normalize not in ("frobenius", "spectral"):
            raise ValueError(
                f"eps={self.eps} with normalize={self.normalize!r}; use eps=0, or 'frobenius'"
            )
        if self.compute_dtype is not None:
            object.__setattr__(self, "compute_dtype", _float_name(self.compute_dtype))
        self._check_pairing()

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
        stack = (x.mT if tall else x).reshape(-1, *sorted(x.shape[-2:]))
        y = self.polar_together([stack])[0]
        return (y.mT if tall else y).reshape(x.shape)

    @functools.partial(jax.jit, static_argnums=(0, 2))
    def polar_together(
        self, stacks: Sequence[Array], axes: tuple[str, ...] = ()
    ) -> list[Array]:
        """Apply the schedule to stacks whose Gram matrices are one batch.

        Args:
          stacks: `[batch, m, n]` each, m ≤ n, of equal `bucket_key`.
          axes: Mesh axes, under `jax.shard_map`, along which devices have parts of the long
            sides. What they exchange are the sums of their Gram matrices.

        Returns:
          The same shapes and dtype.
        """
        _, m, part = stacks[0].shape
        whole = (m, part * lax.axis_size(axes)) if axes else (m, part)
        plan, stages = self.plan(whole, stacks[0].dtype), iter(self.schedule)
        ys, scales = zip(*(scaled(x, axes) for x in stacks))
        for number, count in enumerate(plan.segments):
            operands = [y.astype(plan.dtype) for y in ys]
            grams = [product(y, y.mT.conj()) for y in operands]
            grams = lax.psum(grams, axes) if axes else grams
            if number == 0:
                pairs = zip(grams, scales)
                norms = [norm_bound(g, self.normalize, s, self.eps) for g, s in pairs]
                grams = [g / norm / norm.mT for g, norm in zip(grams, norms)]
                operands = [(y / norm).astype(plan.dtype) for y, norm in zip(ys, norms)]
            segment = functools.partial(gram_factor, tuple(itertools.islice(stages, count)))
            qs = call_once(segment, [g.astype(plan.dtype) for g in grams])
            ys = [product(q, y) for q, y in zip(qs, operands)]
        return [y.astype(x.dtype) for y, x in zip(ys, stacks)]

    def bucket_key(self, shape: Sequence[int], dtype: DTypeLike) -> Hashable:
        """Equal for what `polar_together` takes together: short side, dtype and segments."""
        plan = self.plan(shape, dtype)
        return plan.m, jnp.dtype(dtype), plan.segments

    def plan(self, shape: Sequence[int], dtype: DTypeLike = "float32") -> PolarPlan:
        """How matrices of a shape are worked on, on JAX's default backend.

        Args:
          shape: `[..., m, n]`, of the matrix, which may not be that of the parameter: see
            `dims`.
          dtype: Of the input.

        Returns:
          A `PolarPlan`; print it.

        Raises:
          ValueError: If the shape has fewer than two axes.

        Example:
          >>> print(NewtonSchulz(compute_dtype="bfloat16").plan((256, 1024)))
          256 × 1024 in bfloat16: Gram form, 2 + 1 + 2 stages, 1.17 GFLOP (direct form: 1.51)
        """
        if len(shape) < 2:
            raise ValueError(f"shape={shape}; use two axes or more, [..., m, n]")
        m, n = sorted(shape[-2:])
        operands = self._operands(dtype)
        runs = segments(self.schedule, m, n, float(jnp.finfo(operands).eps), self.form)
        powers = sum(power_products(len(stage) - 1) for stage in self.schedule)
        return PolarPlan(m, n, operands.name, runs, powers)

    def _check_pairing(self) -> None:
        named = self.compute_dtype not in (None, "input")
        dtype = jax.dtypes.canonicalize_dtype(self.compute_dtype if named else "float32")
        eps = float(jnp.finfo(dtype).eps)
        if found := flaw(self.schedule, eps):
            family = find_family(self.coefficients)
            raise ValueError(
                f"{family.name!r} in {dtype}: normalize={self.normalize!r} promises singular "
                f"values in [0, 1], roundings apart, and {found}. "
                f"{remedy(family, self.steps, eps)}"
            )

    def _operands(self, dtype: DTypeLike) -> np.dtype:
        """The dtype that products take, given that of the input."""
        wide = jnp.promote_types(dtype, jnp.float32)
        if jnp.issubdtype(wide, jnp.complexfloating):
            return jax.dtypes.canonicalize_dtype(wide)
        if self.compute_dtype == "input":
            return jax.dtypes.canonicalize_dtype(wide)
        fast = wide == jnp.float32 and jax.default_backend() != "cpu"
        fast = fast and not flaw(self.schedule, float(jnp.finfo("bfloat16").eps))
        # Without jax_enable_x64 there is no float64, whatever was asked for.
        return jax.dtypes.canonicalize_dtype(
            self.compute_dtype or ("bfloat16" if fast else wide)
        )


def _float_name(dtype: DTypeLike) -> str:
    """The name of a real float dtype: hashable, and survives JSON."""
    if isinstance(dtype, str) and dtype == "input":
        return dtype
    try:
        name = jnp.dtype(dtype).name
    except TypeError:
        name = repr(dtype)
    allowed = ("input", "float16", "bfloat16", "float32", "float64")
    if name not in allowed:
        raise ValueError(f"compute_dtype={dtype!r}; use None or one of {allowed}")
    return name
