"""`muon`: the chain that everyone uses for the matrices, and a fallback for the rest."""

from __future__ import annotations  # so that help() shows short types

import inspect
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any

import jax
import numpy as np
import optax
from jax.typing import ArrayLike, DTypeLike

from muon_optax._checks import (
    check_schedulable,
    check_start,
    check_traceable,
    describe,
    find_arrays,
    python_number,
)
from muon_optax._keywords import explain_keywords
from muon_optax.batching import Shardings
from muon_optax.dims import FLAX, Dims, exclude_leaves
from muon_optax.polar._method import PolarMethod
from muon_optax.polar._newton_schulz import NewtonSchulz
from muon_optax.transforms._gradients import cast_like_params
from muon_optax.transforms._method_rules import MethodRules
from muon_optax.transforms._momentum import OnNonfinite, accumulate_momentum
from muon_optax.transforms._orthogonalize import orthogonalize_momentum
from muon_optax.transforms._partition import partition_matrices
from muon_optax.transforms._record import check_interval, record_updates
from muon_optax.transforms._shape import scale_by_shape
from muon_optax.transforms._weight_decay import check_mask, decay_unless_zero


@explain_keywords
def muon(
    learning_rate: optax.ScalarOrSchedule,
    method: PolarMethod | str | MethodRules = NewtonSchulz(),  # noqa: B008 (frozen)
    beta: ArrayLike | optax.Schedule = 0.95,
    weight_decay: optax.ScalarOrSchedule | None = 0.0,
    weight_decay_mask: Any | Callable[[optax.Params], Any] | None = None,
    *,
    dims: Dims = FLAX,
    exclude: str | Sequence[str] = (),
    fallback: optax.GradientTransformation | None = None,
    adam_learning_rate: optax.ScalarOrSchedule | None = None,
    nesterov: bool = True,
    bias_correction: bool = True,
    heavy_ball: bool = False,
    shape_scaling: str = "jordan",
    mu_dtype: DTypeLike | None = None,
    record_every: int | None = None,
    shardings: Shardings = None,
    on_nonfinite: OnNonfinite = "propagate",
    adam_b1: ArrayLike = 0.9,
    adam_b2: ArrayLike = 0.999,
    adam_eps: ArrayLike = 1e-8,
    adam_weight_decay: optax.ScalarOrSchedule | None = 0.0,
    adam_weight_decay_mask: Any | Callable[[optax.Params], Any] | None = None,
) -> optax.GradientTransformationExtraArgs:
    """Muon for a whole model: matrices to Muon, everything else to a fallback.

    A matrix W gets `W ← W - η·(s·polar(μ) + λ·W)` with the momentum μ, the factor s of
    `scale_by_shape`, the learning rate η and the decay λ, decoupled from the gradient as in
    `optax.adamw`. For another chain, use `partition_matrices`.

    Args:
      learning_rate: η, a number or a schedule. With `shape_scaling="jordan"` in units of
        the update's operator norm: 0.02 is usual.
      method: How to orthogonalize: a method, or a name, such as `"fast"` of `METHODS` or
        `"polar_express:8"` with a number of steps; or rules by path, as for `scale_by_muon`:
        `{"attn": "polar_express:8", ".*": "jordan"}`.
      beta: Momentum decay in [0, 1), or a schedule of it.
      weight_decay: λ of the matrices, a number or a schedule; None for 0.
      weight_decay_mask: Which matrices decay: a tree of booleans or a function from
        parameters to one; None for all.
      dims: Which leaf is a matrix and along which axes, by default rules that know Flax by
        role. For other libraries pass `EQUINOX` or another of `LAYOUTS`; for your own names see
        `muon_optax.dims`. Other leaves go to the fallback. `init` warns once of leaves whose
        label may be wrong.
      exclude: Leaves that also go to the fallback, by name: `("Dense_3", "proj_out")`. A name,
        or a regular expression, stands for whole parts of a path such as
        `"layers_0/Dense_3/kernel"`.
      fallback: Any transformation with its own learning rate, in place of AdamW. It gets
        gradients in their parameters' dtype, float16 as float32.
      adam_learning_rate: AdamW's learning rate; None for `learning_rate`, which is too high
        for AdamW where it is right for Muon: pass one, 0.01 for example.

    Other Args:
      nesterov: Whether the momentum looks one step ahead.
      bias_correction: Whether the momentum is divided by its bias; see `scale_by_muon`.
      heavy_ball: Whether it is the sum `β·μ + g` in place of the average.
      shape_scaling: A rule of `scale_by_shape`.
      mu_dtype: The momentum's dtype; None for the parameter's.
      record_every: Measure every matrix's update each so many steps, for
        `diagnostics.latest(state)`; None for never. The updates are the same.
      shardings: How the parameters are sharded over devices, where that cannot be read from
        the arrays; see `scale_by_muon`.
      on_nonfinite: `"propagate"`, or `"skip"` to leave out matrices that are not finite. Then
        a fallback leaf moves only if all the fallback's gradients are finite. Matrices decay
        in either case.
      adam_b1: AdamW's decay of the first moment.
      adam_b2: AdamW's decay of the second moment.
      adam_eps: AdamW's ε.
      adam_weight_decay: AdamW's weight decay.
      adam_weight_decay_mask: Which leaves of the fallback decay, like `weight_decay_mask`. With
        `fallback`, none of the six settings of AdamW may be given.

    Returns:
      `optax.partition` of two chains, labelled `"muon"` and `"fallback"`. Its state
      is on the parameters' mesh; see `place_state` for what wraps it. Under
      `optax.inject_hyperparams`, name in `static_args` every integer, dtype, and function that
      is not a schedule.

    Raises:
      ValueError: If an argument is out of its range; at `init`, if a leaf has no role,
        no leaf at all is a matrix, or a name in `exclude` is in no path. The error names the
        leaf's path.

    Example:
      >>> import jax.numpy as jnp
      >>> from muon_optax import SVD
      >>> params = {"kernel": jnp.eye(2), "bias": jnp.ones(2)}
      >>> tx = muon(0.5, SVD(), adam_learning_rate=0.25)
      >>> updates, _ = tx.update(params, tx.init(params), params)
      >>> updates["kernel"].diagonal().tolist(), updates["bias"].round(4).tolist()
      ([-0.5, -0.5], [-0.25, -0.25])

    Source: Jordan et al. 2024, kellerjordan.github.io/posts/muon; Kim & Oh, arXiv
    2601.19156.
    """
    rate = _check_rate("learning_rate", learning_rate)
    adam = {
        "adam_learning_rate": adam_learning_rate,
        "adam_b1": adam_b1,
        "adam_b2": adam_b2,
        "adam_eps": adam_eps,
        "adam_weight_decay": adam_weight_decay,
        "adam_weight_decay_mask": adam_weight_decay_mask,
    }
    if fallback is None:
        fallback = _adamw(rate, **adam)
    else:
        _check_fallback(fallback, adam)

    def matrices(dims: Dims) -> optax.GradientTransformationExtraArgs:
        momentum = accumulate_momentum(
            beta,
            nesterov=nesterov,
            bias_correction=bias_correction,
            heavy_ball=heavy_ball,
            mu_dtype=mu_dtype,
            dims=dims,
            on_nonfinite=on_nonfinite,
        )
        orthogonalize = orthogonalize_momentum
        if record_every is not None:
            check_interval("record_every", record_every)
            orthogonalize = partial(record_updates, record_every)
        return optax.chain(
            orthogonalize(momentum, method, dims=dims, shardings=shardings),
            scale_by_shape(shape_scaling, dims=dims),
            _decay("weight_decay", weight_decay, weight_decay_mask),
            _scale_by_rate(rate),
        )

    dims = exclude_leaves(dims, exclude)
    matrices(dims)  # so that an argument out of its range raises here and not at init
    if on_nonfinite == "skip":
        fallback = optax.apply_if_finite(fallback, 2**31 - 1)
    return partition_matrices(matrices, cast_like_params(fallback), dims, shardings=shardings)


def _adamw(
    rate: optax.ScalarOrSchedule,
    adam_learning_rate: optax.ScalarOrSchedule | None,
    adam_b1: ArrayLike,
    adam_b2: ArrayLike,
    adam_eps: ArrayLike,
    adam_weight_decay: optax.ScalarOrSchedule | None,
    adam_weight_decay_mask: Any,
) -> optax.GradientTransformation:
    """`optax.adamw`, which asks for parameters only where something decays."""
    if adam_learning_rate is not None:
        rate = _check_rate("adam_learning_rate", adam_learning_rate)
    for name, beta in (("adam_b1", adam_b1), ("adam_b2", adam_b2)):
        check_traceable(name, beta, "a number in [0, 1)", lambda b: 0 <= b < 1)
    check_traceable("adam_eps", adam_eps, "a number ≥ 0", lambda e: e >= 0)
    return optax.chain(
        optax.scale_by_adam(*map(python_number, (adam_b1, adam_b2, adam_eps))),
        _decay("adam_weight_decay", adam_weight_decay, adam_weight_decay_mask),
        _scale_by_rate(rate),
    )


def _check_fallback(fallback: Any, adam: Mapping[str, Any]) -> None:
    """Require a transformation, and no settings of AdamW, which would have no effect."""
    if not isinstance(fallback, optax.GradientTransformation):
        use = "use a transformation, such as optax.sgd(0.1)"
        raise ValueError(f"fallback={describe(fallback)}; {use}")
    defaults = inspect.signature(muon).parameters
    given = [name for name, x in adam.items() if _differs(x, defaults[name].default)]
    if given:
        raise ValueError(
            f"{', '.join(given)} given with fallback, which takes AdamW's place; drop "
            "fallback for AdamW, or set the fallback itself: optax.adamw(1e-3, b1=0.9)"
        )


def _differs(value: Any, default: Any) -> bool:
    """Whether a setting is other than its default; of an injected number, that is unknown."""
    if isinstance(value, jax.Array) or value is default:
        return False
    return not isinstance(value, int | float | np.number) or value != default


def _decay(
    name: str, weight_decay: optax.ScalarOrSchedule | None, mask: Any
) -> optax.GradientTransformation:
    check_mask(f"{name}_mask", mask)
    given = 0.0 if weight_decay is None else weight_decay
    return decay_unless_zero(
        check_schedulable(name, given, "a number ≥ 0", lambda w: w >= 0), mask
    )


def _check_rate(name: str, rate: optax.ScalarOrSchedule) -> optax.ScalarOrSchedule:
    if not callable(rate) and find_arrays(rate):
        use = "use tx = muon(0.02) and tx.init(params)"
        raise ValueError(f"{name}={describe(rate)}, like parameters; {use}")
    return check_schedulable(name, rate, "a number ≥ 0", lambda r: r >= 0)


def _scale_by_rate(rate: optax.ScalarOrSchedule) -> optax.GradientTransformation:
    """`optax.scale_by_learning_rate`, whose `init` checks where a schedule starts."""
    tx = optax.scale_by_learning_rate(rate)

    def init(params: optax.Params) -> optax.OptState:
        check_start(rate)
        return tx.init(params)

    return optax.GradientTransformation(init, tx.update)
