"""Newton-Schulz: odd polynomials of any degree, applied to matrices by products alone."""

import dataclasses
import functools
import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import get_args

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array
from jax.typing import DTypeLike

from muon_optax._casting import saturating_cast, wide_dtype
from muon_optax._checks import check_choice, check_integer, check_number, describe
from muon_optax._platform import Platform, by_platform
from muon_optax._schedules import Numbers, find_family
from muon_optax.coefficients import JORDAN, Coefficients, Schedule
from muon_optax.polar._iteration import Operand, iterate
from muon_optax.polar._linalg import check_matrix, find_largest
from muon_optax.polar._normalization import Normalization, NormBound
from muon_optax.polar._segments import Form, NewtonSchulzPlan, make_plan
from muon_optax.polar._stability import find_instability, suggest_fix
from muon_optax.polar._team import ALONE, Team

_COMPUTE_DTYPES = ("input", "float16", "bfloat16", "float32", "float64")


@dataclass(frozen=True, repr=False)
class NewtonSchulz:
    """Normalize x, then apply `x ↦ c0·x + c1·(x·xᴴ)·x + c2·(x·xᴴ)²·x + …` `steps` times.

    Each step maps every singular value by the family's polynomial and keeps the singular
    vectors. The result does not depend on the scale of x, because x is first scaled by an exact
    power of two. Zero stays zero.

    The direct form computes the Gram matrix `x·xᴴ` at every step. The Gram form updates it from
    step to step, which takes fewer operations above an aspect ratio of 1.5. `plan` says which
    form a matrix gets.

    Attributes:
      coefficients: A family, its name in `FAMILIES`, or numbers. Numbers are one stage, such as
        `(3.4445, -4.775, 2.0315)`, or a row for each step.
      steps: The number of stages, at most 99; the last row of numbers repeats. None means the
        family's `default_steps`: 5 for Jordan's family, and the number of rows for rows.
      normalize: The norm that x is divided by, an upper bound on the largest singular value.
        `"frobenius"`: `‖x‖_F`. `"schatten4"`: `‖x·xᴴ‖_F^(1/2)`, a tighter bound. `"aol"`: row i
        (of the wide matrix) is multiplied by `(Σ_j |x·xᴴ|_ij)^(-1/2)`, which changes the polar
        factor. `"spectral"`: `‖x‖_op`, by an SVD of the Gram matrix, which costs more than
        the steps it may save. `"paper"`: `max(1, ‖x‖_F)`, as in Algorithm 1, which depends on
        the scale of x.
      eps: A number added to the norm, in units of x. Only `"frobenius"` and `"spectral"` accept
        a positive one. Other libraries use 1e-7 or 1e-8. With the default, 0, the result does
        not depend on the scale of x.
      form: `"direct"`, `"gram"`, or `"auto"` for the cheaper one. The Gram form computes a new
        Gram matrix before rounding errors become visible.
      compute_dtype: The dtype of the products' operands: `"float16"`, `"bfloat16"`,
        `"float32"` (never TF32), `"float64"` (needs `jax_enable_x64`), or `"input"` for x's
        dtype, at least float32. Products always accumulate in float32 or wider. None means
        float32 on a CPU, and on accelerators bfloat16 if the schedule is stable in bfloat16
        (`"cans"` and `"polar_express"` are not). With None, float64 input keeps its precision;
        complex input always does.
      allow_unstable: Whether to accept a schedule that may make singular values negative or let
        them grow. Use it to reproduce an older run: updates may point against the momentum or
        overflow.

    Raises:
      ValueError: If an argument is unknown or out of its range, if `steps` exceeds the number
        of stages of a fixed family, or if the schedule is unstable in the dtype of the
        operands; see `allow_unstable`.

    Example:
      >>> x = jnp.diag(jnp.array([3.0, 2.0, 1.0]))
      >>> NewtonSchulz("polar_express", steps=8).polar(x).diagonal().round(3).tolist()
      [1.0, 1.0, 1.0]
      >>> NewtonSchulz(((4.08, -6.89, 2.93), (3.95, -6.30, 2.64))).steps
      2

    Source: Kim & Oh, arXiv 2601.19156, Algorithm 1 and Definition 2; the default family is
    Jordan et al. 2024.
    """

    coefficients: Coefficients | str | Numbers = JORDAN
    steps: int | None = None
    normalize: Normalization = "frobenius"
    eps: float = 0.0
    form: Form = "auto"
    compute_dtype: DTypeLike | None = None
    allow_unstable: bool = False

    def __post_init__(self):
        # So that a name and its family make equal methods, which share a compiled program.
        object.__setattr__(self, "coefficients", find_family(self.coefficients))
        if self.steps is None:
            object.__setattr__(self, "steps", find_family(self.coefficients).default_steps)
        if isinstance(self.steps, int | np.integer) and self.steps > 99:
            raise ValueError(
                f"steps={self.steps}; use at most 99, because every step is unrolled"
            )
        self.schedule  # noqa: B018 (raises where steps do not fit)
        check_choice("normalize", self.normalize, get_args(Normalization))
        check_choice("form", self.form, get_args(Form))
        check_number("eps", self.eps, "a number ≥ 0", lambda eps: eps >= 0)
        if self.eps and self.normalize not in ("frobenius", "spectral"):
            raise ValueError(
                f"eps={self.eps} cannot be used with normalize={self.normalize!r}; use eps=0, "
                "or normalize='frobenius' or 'spectral'"
            )
        if self.compute_dtype is not None:
            object.__setattr__(self, "compute_dtype", _dtype_name(self.compute_dtype))
        if not self.allow_unstable:
            self._check_stability()

    def __init_subclass__(cls):
        raise TypeError(
            "NewtonSchulz cannot be subclassed; write a class whose .polar(x) calls that of a "
            "NewtonSchulz"
        )

    def __repr__(self) -> str:
        others = [
            f", {field.name}={value!r}"
            for field in dataclasses.fields(self)[2:]
            if (value := getattr(self, field.name)) != field.default
        ]
        family = find_family(self.coefficients)
        return f"NewtonSchulz({family.name or family.stages!r}, {self.steps}{''.join(others)})"

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
          ValueError: If x is not an array `[..., m, n]` of floats.
        """
        check_matrix(x)
        if x.size == 0:
            return x

        def polar(platform: Platform, x: Array) -> Array:
            return self.polar_stacks([self.prepare(x, platform)], platform)[0]

        return by_platform(polar, x).astype(x.dtype)

    def prepare(self, x: Array, platform: Platform) -> Operand:
        """Return the input of `polar_stacks`, made in one pass over matrices `[..., m, n]`."""
        m, n = x.shape[-2:]
        dtype = self.plan(m, n, x.dtype, platform).wire_dtype or x.dtype
        return Operand(saturating_cast(x, dtype), find_largest(x))

    @functools.partial(jax.jit, static_argnums=(0, 2, 3))
    def polar_stacks(
        self, operands: Sequence[Operand], platform: Platform, team: Team = ALONE
    ) -> list[Array]:
        """Apply the schedule to several stacks in as few products as possible.

        Args:
          operands: What `prepare` returned for matrices `[..., m, n]`, wide or tall, whose
            plans have equal buckets.
          platform: `"cpu"`, `"gpu"` or `"tpu"`.
          team: Under `jax.shard_map`, the devices that share these matrices. Each device has a
            part of the long side. The matrices must be wide. The devices exchange m × m
            matrices.

        Returns:
          The same shapes, in float32 or wider.
        """
        m, n = operands[0].x.shape[-2:]
        plan = self.plan(m, n * team.size, operands[0].x.dtype, platform)
        bound = NormBound(self.normalize, self.eps)
        return iterate(self.schedule, plan, bound, operands, platform, team)

    def plan(
        self, m: int, n: int, dtype: DTypeLike = "float32", platform: Platform = "cpu"
    ) -> NewtonSchulzPlan:
        """Return the form, segments and operations for an m × n matrix.

        Args:
          m: One dimension of the matrix, which `dims` reads from the parameter.
          n: The other dimension.
          dtype: The input's dtype.
          platform: `"cpu"`, `"gpu"` or `"tpu"`.

        Returns:
          A plan; print it.

        Raises:
          ValueError: If `m` or `n` is not a whole number ≥ 0.

        Example:
          >>> print(NewtonSchulz().plan(256, 256, platform="tpu"))
          256 × 256 in bfloat16: direct form, 5 stages, 0.503 GFLOP, joined
        """
        check_integer("m", m, 0)
        check_integer("n", n, 0)
        operands = self._operand_dtype(dtype, platform)
        m, n = min(m, n), max(m, n)
        plan = make_plan(self.schedule, m, n, operands, self.form, dtype, platform)
        if self.normalize == "spectral":  # all members of a team would repeat the SVD
            plan = dataclasses.replace(plan, team_bytes=math.inf)
        return dataclasses.replace(plan, commutes_with_transpose=self.normalize != "aol")

    def _check_stability(self) -> None:
        named = self.compute_dtype not in (None, "input")
        dtype = jax.dtypes.canonicalize_dtype(self.compute_dtype if named else "float32")
        eps = float(jnp.finfo(dtype).eps)
        if problem := find_instability(self.schedule, eps):
            family = find_family(self.coefficients)
            raise ValueError(
                f"{describe(family.name or family.stages)} is unstable in {dtype}: "
                f"normalize={self.normalize!r} brings singular values into [0, 1] up to "
                f"rounding, and {problem}. {suggest_fix(family, len(self.schedule), eps)}. To "
                "reproduce a run that was made with this schedule, pass allow_unstable=True"
            )

    def _operand_dtype(self, dtype: DTypeLike, platform: Platform) -> np.dtype:
        """Return the dtype of the products' operands, given the dtype of the input."""
        wide = wide_dtype(dtype)
        chosen = self.compute_dtype
        if chosen == "input" or jnp.issubdtype(wide, jnp.complexfloating):
            chosen = wide
        elif chosen is None:
            is_fast = platform != "cpu" and wide == jnp.float32
            stable = not find_instability(self.schedule, float(jnp.finfo("bfloat16").eps))
            chosen = "bfloat16" if is_fast and stable else wide
        # Without jax_enable_x64 float64 becomes float32.
        return jax.dtypes.canonicalize_dtype(chosen)


def _dtype_name(dtype: DTypeLike) -> str:
    """Return the name of a real float dtype: names are hashable and can be stored as JSON."""
    try:
        name = "input" if dtype == "input" else jnp.dtype(dtype).name
    except (TypeError, ValueError):  # for example for a dict
        name = ""
    if name not in _COMPUTE_DTYPES:
        raise ValueError(
            f"compute_dtype={describe(dtype)}; use None or one of {_COMPUTE_DTYPES}"
        )
    return name
