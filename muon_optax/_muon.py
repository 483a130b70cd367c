"""`muon`: the standard Muon chain for the matrices, and a fallback for all other leaves."""

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
    """Train a whole model: the matrices by Muon, all other leaves by a fallback.

    Each matrix W is updated by `W ← W - η·(s·polar(μ) + λ·W)`, with learning rate η, momentum
    μ, shape factor s (see `scale_by_shape`) and decoupled weight decay λ. To use another chain
    of transformations, see `partition_matrices`.

    Args:
      learning_rate: η, a number or a schedule. η·s is about the operator norm of an update.
        With `shape_scaling="jordan"`, 0.02 is usual.
      method: How to orthogonalize: a polar method, a name such as `"fast"` (see `METHODS`) or
        `"polar_express:8"` (8 steps), or a dict from paths to methods, as in `scale_by_muon`:
        `{"attn": "polar_express:8", ".*": "jordan"}`.
      beta: Momentum decay in [0, 1), a number or a schedule.
      weight_decay: λ for the matrices, a number or a schedule; None means 0.
      weight_decay_mask: Which matrices decay: a tree of booleans, or a function from
        parameters to such a tree; None means all.
      dims: Which leaves are matrices, and along which axes. The default knows Flax's names.
        For other libraries pass `EQUINOX` or another of `LAYOUTS`; for your own names see
        `muon_optax.dims`. `init` warns about leaves that may have the wrong optimizer.
      exclude: More leaves for the fallback, by name: `("Dense_3", "proj_out")`. A name or
        regular expression has to match whole parts of a path such as
        `"layers_0/Dense_3/kernel"`.
      fallback: An optimizer to use instead of AdamW, with its own learning rate. It gets
        gradients in the parameters' dtype, or in float32 for float16 parameters.
      adam_learning_rate: AdamW's learning rate; None means `learning_rate`. A good rate for
        Muon is too high for AdamW, so pass a lower one, such as 0.01.

    Other Args:
      nesterov: Whether to use Nesterov's momentum.
      bias_correction: Whether to divide the momentum by its bias; see `scale_by_muon`.
      heavy_ball: Whether the momentum is the sum `β·μ + g` instead of the average.
      shape_scaling: A rule of `scale_by_shape`.
      mu_dtype: The momentum's dtype; None means the parameter's.
      record_every: Measure all updates every `record_every` steps; None means never. Read the
        results with `diagnostics.latest(state)`. The updates do not change.
      shardings: How the parameters are sharded. Needed under `jax.jit` on a mesh with
        automatic axes; see `scale_by_muon`.
      on_nonfinite: `"propagate"`, or `"skip"` to skip the update of each matrix that is not
        finite, except for its weight decay. With `"skip"`, the fallback also skips every step
        in which one of its gradients is not finite.
      adam_b1: AdamW's decay of the first moment.
      adam_b2: AdamW's decay of the second moment.
      adam_eps: AdamW's ε.
      adam_weight_decay: AdamW's weight decay.
      adam_weight_decay_mask: Which of AdamW's leaves decay, like `weight_decay_mask`. The
        arguments that begin with `adam_` cannot be combined with `fallback`.

    Returns:
      `optax.partition` of two chains, labelled `"muon"` and `"fallback"`. The state is placed
      on the parameters' mesh; if you wrap this optimizer, see `place_state`. Under
      `optax.inject_hyperparams`, put every integer, every dtype and every function that is
      not a schedule into `static_args`.

    Raises:
      ValueError: If an argument is out of its range. At `init`, if no rule fits a leaf, if no
        leaf is a matrix, or if a name in `exclude` matches no path.

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
    matrices(dims)  # raises here, and not at init, if an argument is out of its range
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
    """Make `optax.adamw`, but let `update` need parameters only if there is weight decay."""
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
    """Refuse a fallback that is not an optimizer, and settings of AdamW, which it replaces."""
    if not isinstance(fallback, optax.GradientTransformation):
        use = "use a transformation, such as optax.sgd(0.1)"
        raise ValueError(f"fallback={describe(fallback)}; {use}")
    defaults = inspect.signature(muon).parameters
    given = [name for name, x in adam.items() if _differs(x, defaults[name].default)]
    if given:
        raise ValueError(
            f"{', '.join(given)} cannot be combined with `fallback`, which replaces AdamW; "
            "drop `fallback`, or set the fallback itself: fallback=optax.adamw(1e-3, b1=0.9)"
        )


def _differs(value: Any, default: Any) -> bool:
    """Return whether a setting differs from its default. An injected array counts as equal."""
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
        use = "pass the parameters to init: tx = muon(0.02), then tx.init(params)"
        raise ValueError(f"{name}={describe(rate)}, which looks like parameters; {use}")
    return check_schedulable(name, rate, "a number ≥ 0", lambda r: r >= 0)


def _scale_by_rate(rate: optax.ScalarOrSchedule) -> optax.GradientTransformation:
    """Make `optax.scale_by_learning_rate`, but let `init` check a schedule's first number."""
    tx = optax.scale_by_learning_rate(rate)

    def init(params: optax.Params) -> optax.OptState:
        check_start(rate)
        return tx.init(params)

    return optax.GradientTransformation(init, tx.update)
