"""Muon with the signatures, defaults and numbers of `optax.contrib`.

>>> import jax.numpy as jnp
>>> params = {"w": jnp.eye(3), "b": jnp.ones(3)}
>>> tx = muon(learning_rate=0.1)  # in place of optax.contrib.muon(learning_rate=0.1)
>>> updates, state = tx.update(params, tx.init(params), params)
"""

import inspect
import warnings
from collections.abc import Callable
from typing import Any, TypeVar

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jax import Array
from jax.core import Tracer
from jax.typing import ArrayLike, DTypeLike

from muon_optax._casting import saturating_cast, wide_dtype
from muon_optax._checks import check_choice, check_traceable
from muon_optax.coefficients import JORDAN, YOU, Coefficients
from muon_optax.dims import RANK_TWO, Dims
from muon_optax.polar._dual_norm import DualNorm
from muon_optax.polar._method import PolarMethod
from muon_optax.polar._newton_schulz import NewtonSchulz
from muon_optax.polar._normalization import Normalization
from muon_optax.polar._stability import find_instability
from muon_optax.transforms._orthogonalize import scale_by_muon as scale_by_any_muon
from muon_optax.transforms._partition import partition_as
from muon_optax.transforms._shape import scale_by_shape as scale_by_any_shape
from muon_optax.transforms._weight_decay import check_mask, decay_unless_zero

_PRESETS = {"standard": JORDAN.stages[0], "muon": JORDAN.stages[0], "dion": YOU.stages}
_NORMALIZATIONS: dict[str, Normalization] = {
    "frobenius": "frobenius",
    "spectral": "spectral",
    "aol": "aol",
    "schatten": "schatten4",
}

_Function = TypeVar("_Function", bound=Callable[..., Any])


class _Integer(np.int64):
    def __repr__(self) -> str:  # for help()
        return repr(int(self))


class _Float(np.longdouble):
    def __repr__(self) -> str:
        return repr(float(self))


def _constant_defaults(function: _Function) -> _Function:
    """Keep the defaults of `ns_steps` and `eps` constant under `optax.inject_hyperparams`.

    That function traces a signature's defaults if they are Python numbers, but not if they are
    NumPy scalars.
    """
    signature = inspect.signature(function)
    constants = {"ns_steps": _Integer, "eps": _Float}
    parameters = [
        p.replace(default=constants[p.name](p.default)) if p.name in constants else p
        for p in signature.parameters.values()
    ]
    vars(function)["__signature__"] = signature.replace(parameters=parameters)
    return function


@_constant_defaults
def scale_by_muon(
    ns_coeffs: Any = (3.4445, -4.7750, 2.0315),
    ns_steps: int = 5,
    beta: ArrayLike = 0.95,
    eps: float = 1e-8,
    mu_dtype: DTypeLike | None = None,
    *,
    nesterov: bool = True,
    adaptive: bool = False,
    preconditioning: str = "frobenius",
    weight_dimension_numbers: Dims = None,
) -> optax.GradientTransformationExtraArgs:
    """The momentum and the polar step of `optax.contrib.scale_by_muon`.

    Arguments, defaults and numbers are those of `optax.contrib.scale_by_muon`, with two
    exceptions: `weight_dimension_numbers` may be any form that `muon_optax.dims` lists, and
    `adaptive` computes a dual norm for each matrix, not for each leaf.

    Returns:
      A transformation whose state is a `muon_optax.MuonState`, without coefficients.

    Raises:
      ValueError: If an argument is unknown or out of its range.

    Example:
      >>> import jax.numpy as jnp
      >>> spec = optax.contrib.MuonDimensionNumbers()
      >>> tx = scale_by_muon(weight_dimension_numbers=spec)
      >>> theirs = optax.contrib.scale_by_muon(weight_dimension_numbers=spec)
      >>> g = jnp.array([[3.0, 0.0], [1.0, 1.0], [0.0, 2.0]])
      >>> ours, expected = (t.update(g, t.init(g))[0] for t in (tx, theirs))
      >>> bool(jnp.abs(ours - expected).max() < 1e-6)
      True

    Source: `optax.contrib.scale_by_muon`, optax 0.2.8.
    """
    method = _method(ns_coeffs, ns_steps, eps, preconditioning, adaptive)
    return scale_by_any_muon(
        method, beta, nesterov=nesterov, mu_dtype=mu_dtype, dims=weight_dimension_numbers
    )


def scale_by_shape(
    weight_dimension_numbers: Dims = None, consistent_rms: ArrayLike | None = None
) -> optax.GradientTransformationExtraArgs:
    """The shape factor of `optax.contrib.muon`.

    Arguments, defaults and numbers are those of `optax.contrib`'s `scale_by_shape`. The factor
    is `consistent_rms·√max(fan_in, fan_out)`, or `√max(1, fan_out/fan_in)` if that is None.
    `weight_dimension_numbers` may be any form that `muon_optax.dims` lists.

    Returns:
      A stateless transformation.

    Raises:
      ValueError: If `consistent_rms` is negative.

    Example:
      >>> import jax.numpy as jnp
      >>> tx = scale_by_shape(consistent_rms=0.5)
      >>> tx.update(jnp.ones((1, 4)), tx.init(jnp.ones((1, 4))))[0].tolist()
      [[1.0, 1.0, 1.0, 1.0]]

    Source: `optax.contrib._muon.scale_by_shape`, optax 0.2.8.
    """
    if consistent_rms is None:
        return scale_by_any_shape("jordan", dims=weight_dimension_numbers)
    check_traceable("consistent_rms", consistent_rms, "None or a number ≥ 0", lambda c: c >= 0)
    adam_rms = scale_by_any_shape("adam_rms", dims=weight_dimension_numbers)

    def update(
        updates: optax.Updates,
        state: Any,
        params: optax.Params | None = None,
        **extra_args: Any,
    ) -> tuple[optax.Updates, Any]:
        updates, state = adam_rms.update(updates, state, params, **extra_args)

        def scale(u: Array) -> Array:
            wide = u.astype(wide_dtype(u.dtype))
            factor = jnp.asarray(consistent_rms / 0.2, jnp.finfo(wide.dtype).dtype)
            return saturating_cast(factor.astype(wide.dtype) * wide, u.dtype)

        return jax.tree.map(scale, updates), state

    return optax.GradientTransformationExtraArgs(adam_rms.init, update)


@_constant_defaults
def muon(
    learning_rate: optax.ScalarOrSchedule,
    ns_coeffs: Any = (3.4445, -4.7750, 2.0315),
    ns_steps: int = 5,
    beta: ArrayLike = 0.95,
    eps: float = 1e-8,
    weight_decay: optax.ScalarOrSchedule = 0.0,
    weight_decay_mask: Any | Callable[[optax.Params], Any] | None = None,
    mu_dtype: DTypeLike | None = None,
    *,
    nesterov: bool = True,
    adaptive: bool = False,
    preconditioning: str = "frobenius",
    adam_b1: ArrayLike = 0.9,
    adam_b2: ArrayLike = 0.999,
    adam_eps_root: ArrayLike = 0.0,
    adam_weight_decay: optax.ScalarOrSchedule = 0.0,
    adam_learning_rate: optax.ScalarOrSchedule | None = None,
    muon_weight_dimension_numbers: Dims = None,
    consistent_rms: ArrayLike | None = None,
) -> optax.GradientTransformationExtraArgs:
    """A drop-in replacement for `optax.contrib.muon`, with the same labels and order of states.

    Arguments, defaults and numbers are those of `optax.contrib.muon`, with these exceptions
    (the full list is in docs/migrating.md):

    - `muon_weight_dimension_numbers` may be any form that `muon_optax.dims` lists. It also
      applies to leaves of rank 2.
    - `adaptive` computes a dual norm for each matrix, not for each leaf.
    - Tiny, huge and zero gradients give finite updates in every dtype.
    - Coefficients that may make singular values negative cause a warning.

    As in Optax, None for `muon_weight_dimension_numbers` trains every leaf of rank 2 by Muon,
    even embeddings and stacked biases; `plan(params, dims.RANK_TWO)` shows these leaves. As in
    Optax, too, `nesterov`, `eps` and `mu_dtype` also apply to Adam, so it is NAdam by default.

    Under `optax.inject_hyperparams`, add `ns_steps` and `eps` to `static_args` if you set them.

    Returns:
      `optax.partition` of two chains, labelled `"muon"` and `"adam"`.

    Raises:
      ValueError: If an argument is unknown or out of its range.

    Example:
      >>> import jax.numpy as jnp
      >>> params = {"w": jnp.eye(3), "b": jnp.ones(3)}
      >>> tx, theirs = muon(0.1), optax.contrib.muon(0.1)
      >>> ours, expected = (t.update(params, t.init(params), params)[0] for t in (tx, theirs))
      >>> all(bool(jnp.abs(ours[name] - expected[name]).max() < 1e-7) for name in params)
      True
      >>> inject = optax.inject_hyperparams(muon, static_args=("ns_steps", "eps"))
      >>> tx = inject(optax.linear_schedule(0.1, 0.0, 100), ns_steps=6, eps=1e-7)
      >>> updates, _ = jax.jit(tx.update)(params, tx.init(params), params)

    Source: `optax.contrib.muon`, optax 0.2.8.
    """
    check_mask("weight_decay_mask", weight_decay_mask)
    rate = learning_rate if adam_learning_rate is None else adam_learning_rate
    dims = muon_weight_dimension_numbers
    method = _method(ns_coeffs, ns_steps, eps, preconditioning, adaptive)

    def matrices(dims: Dims) -> optax.GradientTransformationExtraArgs:
        return optax.chain(
            scale_by_any_muon(method, beta, nesterov=nesterov, mu_dtype=mu_dtype, dims=dims),
            scale_by_shape(dims, consistent_rms),
            decay_unless_zero(weight_decay, weight_decay_mask),
            optax.scale_by_learning_rate(learning_rate),
        )

    adam = optax.scale_by_adam(
        adam_b1, adam_b2, float(eps), adam_eps_root, mu_dtype=mu_dtype, nesterov=nesterov
    )
    decay = decay_unless_zero(adam_weight_decay)
    fallback = optax.chain(adam, decay, optax.scale_by_learning_rate(rate))
    matrices(dims)  # raises here, and not at init, if an argument is out of its range
    dims = RANK_TWO if dims is None else dims
    return partition_as("adam", matrices, fallback, dims, needs_matrix=False)


def _method(
    ns_coeffs: Any, ns_steps: int, eps: float, preconditioning: str, adaptive: bool
) -> PolarMethod:
    """Return the polar method that Optax's arguments describe."""
    check_choice("preconditioning", preconditioning, _NORMALIZATIONS)
    if any(isinstance(value, Tracer) for value in (ns_coeffs, ns_steps, eps)):
        raise ValueError(
            "`ns_coeffs`, `ns_steps` and `eps` cannot be traced; under "
            'optax.inject_hyperparams, pass static_args=("ns_coeffs", "ns_steps", "eps")'
        )
    family, steps = _family(ns_coeffs, ns_steps)
    takes_eps = preconditioning in ("frobenius", "spectral")
    polar = NewtonSchulz(
        family,
        steps,
        normalize=_NORMALIZATIONS[preconditioning],
        eps=float(eps) if takes_eps else 0.0,
        compute_dtype="input",
        allow_unstable=True,
    )
    if problem := find_instability(polar.schedule, float(jnp.finfo("float32").eps)):
        warnings.warn(
            f"muon_optax: preconditioning={preconditioning!r} brings singular values into "
            f"[0, 1], but with these ns_coeffs {problem}. Updates may point against the "
            "momentum, as with optax.contrib.muon. Use other ns_coeffs, such as 'dion'",
            stacklevel=3,
        )
    return DualNorm(polar) if adaptive else polar


def _family(ns_coeffs: Any, ns_steps: int) -> tuple[Coefficients, int]:
    """Return the coefficients as a family, and the number of steps."""
    if isinstance(ns_coeffs, str):
        if ns_coeffs not in _PRESETS:
            raise ValueError(
                f"ns_coeffs={ns_coeffs!r}; use one of {sorted(_PRESETS)}, three numbers, or "
                "rows of three numbers"
            )
        ns_coeffs = _PRESETS[ns_coeffs]
    rows = np.asarray(ns_coeffs, np.float64)
    if rows.ndim not in (1, 2) or rows.shape[-1] != 3 or not rows.size:
        raise ValueError(
            f"`ns_coeffs` has shape {rows.shape}; use three numbers, or rows of three numbers"
        )
    stages = tuple(tuple(map(float, row)) for row in np.atleast_2d(rows))
    if rows.ndim == 1:
        return Coefficients("ns_coeffs", stages, "repeat", "an argument"), int(ns_steps)
    return Coefficients("ns_coeffs", stages, "fixed", "an argument"), len(stages)
