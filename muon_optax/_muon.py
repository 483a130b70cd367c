"""Knows `muon`: the chain of the matrices that everyone uses, and AdamW beside it."""

from collections.abc import Callable
from functools import partial
from typing import Any

import jax
import optax
from jax.typing import ArrayLike, DTypeLike

from muon_optax._checks import check_schedulable
from muon_optax.batching import Shardings
from muon_optax.diagnostics import record_muon
from muon_optax.dims import FLAX, Dims
from muon_optax.polar import NewtonSchulz, PolarMethod
from muon_optax.transforms._gradients import cast_like_params
from muon_optax.transforms._nonfinite import OnNonfinite
from muon_optax.transforms._orthogonalize import scale_by_muon, scale_by_shape
from muon_optax.transforms._partition import partition_matrices
from muon_optax.transforms._weight_decay import decay_unless_zero

_NAME_STATIC = (
    "it went through optax.inject_hyperparams; name it in static_args, together with dims "
    "and weight_decay_mask where they are functions"
)


def muon(
    learning_rate: optax.ScalarOrSchedule,
    method: PolarMethod = NewtonSchulz(),  # noqa: B008 (frozen)
    beta: ArrayLike | optax.Schedule = 0.95,
    weight_decay: optax.ScalarOrSchedule | None = 0.0,
    weight_decay_mask: Any | Callable[[optax.Params], Any] | None = None,
    *,
    nesterov: bool = True,
    bias_correction: bool = True,
    heavy_ball: bool = False,
    shape_scaling: str = "jordan",
    dims: Dims = FLAX,
    mu_dtype: DTypeLike | None = None,
    max_stack_bytes: int | None = None,
    record_every: int | None = None,
    shardings: Shardings = None,
    on_nonfinite: OnNonfinite = "propagate",
    fallback: optax.GradientTransformation | None = None,
    adam_learning_rate: optax.ScalarOrSchedule | None = None,
    adam_b1: ArrayLike = 0.9,
    adam_b2: ArrayLike = 0.999,
    adam_eps: ArrayLike = 1e-8,
    adam_weight_decay: optax.ScalarOrSchedule | None = 0.0,
) -> optax.GradientTransformationExtraArgs:
    """Muon for a whole model: matrices to Muon, everything else to a fallback.

    A matrix W gets `W ← W - η·(s·polar(μ) + λ·W)` with the momentum μ of `scale_by_muon`,
    the factor s of `scale_by_shape`, the learning rate η and the decay λ, decoupled from
    the gradient and multiplied by the learning rate, as in `optax.adamw`.

    Under `optax.inject_hyperparams`, which takes every function for a schedule and every
    integer for a hyperparameter, name in its `static_args` what is none of these: `dims` and
    `weight_decay_mask` where they are functions, `max_stack_bytes`, `record_every`, a dtype
    object.

    Args:
      learning_rate: η, a number or a schedule; with `shape_scaling="jordan"` in units of
        the update's operator norm: 0.02 is usual.
      method: How to orthogonalize: one of `METHODS`, such as `METHODS["fast"]`; see
        `scale_by_muon`.
      beta: Momentum decay in [0, 1), or a schedule of it.
      weight_decay: λ of the matrices, a number or a schedule; None for 0.
      weight_decay_mask: Which matrices decay: a tree of booleans or a function from
        parameters to one, as in `optax.add_decayed_weights`; None for all.
      nesterov: See `scale_by_muon`.
      bias_correction: See `scale_by_muon`.
      heavy_ball: See `scale_by_muon`.
      shape_scaling: A rule of `scale_by_shape`.
      dims: Which leaf is a matrix and along which axes, by default rules that know Flax by
        role; see `muon_optax.dims`. Leaves without a spec go to the fallback.
      mu_dtype: See `scale_by_muon`.
      max_stack_bytes: See `scale_by_muon`.
      record_every: Measure every matrix's update each so many steps, for
        `diagnostics.latest(state)`; None for never. The updates are the same.
      shardings: See `scale_by_muon`; at least of the matrices.
      on_nonfinite: See `scale_by_muon`. `"skip"` also wraps the fallback in
        `optax.apply_if_finite`: where any of its gradients is not finite, none of its leaves
        moves. Weight decay of the matrices goes on.
      fallback: Any transformation, its own learning rate included, in place of AdamW; the
        `adam_*` arguments are then for nothing. It sees gradients in their parameters' dtype,
        float16 as float32.
      adam_learning_rate: The fallback's learning rate; None for `learning_rate`, which is
        high for AdamW where it is right for Muon: pass one, 3e-3 for example.
      adam_b1: Its decay of the first moment.
      adam_b2: Its decay of the second moment.
      adam_eps: Its ε.
      adam_weight_decay: Its weight decay, 0 by default as for embeddings, norms and biases.

    Returns:
      `optax.partition` of two chains, labelled `"muon"` and `"adam"`.

    Raises:
      ValueError: If an argument is out of its range; at `init`, if a leaf has no role, or
        no leaf at all is a matrix. The leaf's path is named.

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
    _check_rate("learning_rate", learning_rate)
    if isinstance(weight_decay_mask, bool | jax.Array):
        raise ValueError(f"weight_decay_mask={weight_decay_mask!r}; {_NAME_STATIC}")
    if fallback is None:
        rate = learning_rate if adam_learning_rate is None else adam_learning_rate
        fallback = _adamw(rate, adam_b1, adam_b2, adam_eps, adam_weight_decay)
    elif not isinstance(fallback, optax.GradientTransformation):
        raise ValueError(f"fallback={fallback!r}; use a transformation, such as optax.sgd(0.1)")
    elif adam_learning_rate is not None:
        raise ValueError("adam_learning_rate is for AdamW; give the fallback its own rate")

    if on_nonfinite == "skip":
        fallback = optax.apply_if_finite(fallback, max_consecutive_errors=2**31 - 1)
    fallback = cast_like_params(fallback)
    scale = scale_by_muon if record_every is None else partial(record_muon, record_every)

    def matrices(dims: Dims) -> optax.GradientTransformationExtraArgs:
        return optax.chain(
            scale(
                method,
                beta,
                nesterov=nesterov,
                bias_correction=bias_correction,
                heavy_ball=heavy_ball,
                mu_dtype=mu_dtype,
                dims=dims,
                max_stack_bytes=max_stack_bytes,
                shardings=shardings,
                on_nonfinite=on_nonfinite,
            ),
            scale_by_shape(shape_scaling, dims=dims),
            _decay("weight_decay", weight_decay, weight_decay_mask),
            optax.scale_by_learning_rate(learning_rate),
        )

    matrices(dims)  # what is out of its range raises here, not at init
    return partition_matrices(matrices, fallback, dims)


def _adamw(
    learning_rate: optax.ScalarOrSchedule,
    b1: ArrayLike,
    b2: ArrayLike,
    eps: ArrayLike,
    weight_decay: optax.ScalarOrSchedule | None,
) -> optax.GradientTransformation:
    """`optax.adamw`, which asks for parameters only where something decays."""
    _check_rate("adam_learning_rate", learning_rate)
    for name, beta in (("adam_b1", b1), ("adam_b2", b2)):
        check_schedulable(name, beta, "a number in [0, 1)", lambda b: 0 <= b < 1)
    check_schedulable("adam_eps", eps, "a number ≥ 0", lambda e: e >= 0)
    return optax.chain(
        optax.scale_by_adam(b1, b2, eps),
        _decay("adam_weight_decay", weight_decay),
        optax.scale_by_learning_rate(learning_rate),
    )


def _decay(
    name: str, weight_decay: optax.ScalarOrSchedule | None, mask: Any = None
) -> optax.GradientTransformation:
    weight_decay = 0.0 if weight_decay is None else weight_decay
    check_schedulable(name, weight_decay, "a number ≥ 0", lambda w: w >= 0)
    return decay_unless_zero(weight_decay, mask)


def _check_rate(name: str, rate: optax.ScalarOrSchedule) -> None:
    check_schedulable(name, rate, "a number ≥ 0", lambda r: r >= 0)
