"""The polar step, `o = polar(x)` for each matrix, and `scale_by_muon`.

`scale_by_muon` computes the momentum and applies the polar step to it.
"""

from __future__ import annotations  # so that help() shows short types

from typing import Any

import jax
import optax
from jax import Array
from jax.typing import ArrayLike, DTypeLike

from muon_optax._casting import saturating_cast
from muon_optax._keywords import explain_keywords
from muon_optax._leaves import leaves_by_path
from muon_optax.batching import Measurement, Shardings, choose_map
from muon_optax.dims import Dims, matrix_views
from muon_optax.polar._method import PolarMethod
from muon_optax.polar._newton_schulz import NewtonSchulz
from muon_optax.transforms._method_rules import (
    FoundMethods,
    MethodRules,
    check_rules,
    find_methods,
    methods_of,
)
from muon_optax.transforms._momentum import OnNonfinite, accumulate_momentum
from muon_optax.transforms._place_state import place_state
from muon_optax.transforms._resolve_dims import resolve_dims_once


@explain_keywords
def scale_by_muon(
    method: PolarMethod | str | MethodRules = NewtonSchulz(),  # noqa: B008 (frozen)
    beta: ArrayLike | optax.Schedule = 0.95,
    *,
    dims: Dims = None,
    nesterov: bool = True,
    bias_correction: bool = True,
    heavy_ball: bool = False,
    mu_dtype: DTypeLike | None = None,
    shardings: Shardings = None,
    on_nonfinite: OnNonfinite = "propagate",
) -> optax.GradientTransformationExtraArgs:
    """Replace each gradient matrix by the polar factor of its momentum.

    The momentum is `μ ← β·μ + (1-β)·g`. The update is `polar(μ)` or, with Nesterov's momentum,
    `polar(β·μ + (1-β)·g)`.

    Args:
      method: How to orthogonalize: a `NewtonSchulz(...)`, `SVD()`, any object with
        `.polar(x)`, or a name such as `"fast"` (see `METHODS`) or `"polar_express:8"`
        (8 steps). Or a dict from paths to methods,
        `{"attn": "polar_express:8", ".*": "jordan"}`. A key is a whole path, or a name or
        regular expression that matches whole parts of a path. If one key is the leaf's whole
        path, it decides. Otherwise the first key that matches decides. Each leaf needs a
        method.
      beta: Momentum decay in [0, 1), a number or a schedule.
      dims: Which leaves are matrices, and along which axes; see `muon_optax.dims`. None means
        that every leaf is `[fan_in, fan_out]`.

    Other Args:
      nesterov: Whether to use Nesterov's momentum.
      bias_correction: Whether to divide μ by `1 - β^t` in step t. In Nesterov's sum, μ is
        divided by `1 - β^(t+1)` and g by `1 - β^t`. `optax.contrib.muon` has this correction;
        the Muons of Keller Jordan and PyTorch do not.
      heavy_ball: Whether to use `μ ← β·μ + g`, and `β·μ + g` for Nesterov's momentum. With a
        constant β, this μ is 1/(1-β) times the average, so its polar factor is the same. Use it
        if you continue from the state of a library that sums.
      mu_dtype: The momentum's dtype; None means the parameter's. Sums are computed in float32
        or wider. Complex leaves keep their dtype.
      shardings: How the parameters are sharded. Needed only under `jax.jit` on a mesh with
        automatic axes (`AxisType.Auto`); otherwise it is read from the arrays. One of:
        a `NamedSharding` for all parameters, such as `NamedSharding(mesh, PartitionSpec())`;
        a tree of `NamedSharding`s, such as `jax.tree.map(lambda p: p.sharding, params)`;
        a tree of `jax.ShapeDtypeStruct`s with shardings;
        `(mesh, specs)` with a tree of `PartitionSpec`s, such as
        `nnx.get_partition_spec(state)`, where None means `PartitionSpec()`;
        a function from a tree of parameters or gradients (or a part of it) to one of these.
        A tree may be a prefix of the parameters' tree.
      on_nonfinite: What to do about a matrix whose gradient or momentum has a NaN or an
        infinity. `"propagate"`: its update and its momentum are broken from then on, but those
        of other matrices are not.
        `"skip"`: its update is zero, its momentum keeps its value, and `MuonState.skipped`
        counts it. Each matrix of a leaf is checked separately.

    Returns:
      A transformation whose state is a `MuonState`. Updates have the parameters' dtype, or the
      gradients' dtype if `update` gets no parameters.

    Raises:
      ValueError: If an argument is out of its range. At `init` and `update`, if a leaf is not
        a matrix of floats under `dims`, or has no method; the error names the leaf. At `init`,
        if a key of `method` matches no path.

    Example:
      >>> import jax.numpy as jnp
      >>> params = {"w": jnp.zeros((2, 3))}
      >>> grads = {"w": jnp.array([[3.0, 0.0, 0.0], [0.0, 4.0, 0.0]])}
      >>> from muon_optax import SVD
      >>> tx = scale_by_muon(SVD())
      >>> updates, state = tx.update(grads, tx.init(params), params)
      >>> updates["w"].round(4).tolist()
      [[1.0, 0.0, 0.0], [0.0, 1.0, 0.0]]

    Source: Kim & Oh, arXiv 2601.19156, Algorithm 1 (without Nesterov's step and bias
    correction; the algorithm's `M = μ/(1-β)` is the μ of `heavy_ball`).
    """

    def momentum_and_polar_step(dims: Dims) -> optax.GradientTransformationExtraArgs:
        momentum = accumulate_momentum(
            beta,
            nesterov=nesterov,
            bias_correction=bias_correction,
            heavy_ball=heavy_ball,
            mu_dtype=mu_dtype,
            dims=dims,
            on_nonfinite=on_nonfinite,
        )
        return orthogonalize_momentum(momentum, method, dims, shardings)

    return place_state(resolve_dims_once(momentum_and_polar_step, dims), shardings)


def orthogonalize_momentum(
    momentum: optax.GradientTransformationExtraArgs,
    method: PolarMethod | str | MethodRules,
    dims: Dims = None,
    shardings: Shardings = None,
) -> optax.GradientTransformationExtraArgs:
    """Combine `accumulate_momentum`, or a wrapper of it, with the polar step.

    A single pass over memory reads a gradient and writes its momentum and the method's input.
    Two separate transformations would take two or three passes. The arguments are those of
    `scale_by_muon`; the state is that of `momentum`.
    """
    methods = find_methods(method)

    def init(params: optax.Params) -> Any:
        check_methods(methods, dims, params)
        return momentum.init(params)

    def update(
        updates: optax.Updates,
        state: Any,
        params: optax.Params | None = None,
        **extra_args: Any,
    ) -> tuple[optax.Updates, Any]:
        like = updates if params is None else params
        blend, state = momentum.update(updates, state, params, **extra_args)
        polars, mu, _ = polar_step(methods, dims, shardings, blend, like, state.mu)
        return polars, state._replace(mu=mu)

    return optax.GradientTransformationExtraArgs(init, update)


def check_methods(methods: FoundMethods, dims: Dims, params: optax.Params) -> None:
    """Refuse a parameter that is not a matrix or has no method, and a rule without a match."""
    matrix_views(dims, params)
    check_rules(methods, leaves_by_path(params), params)


def polar_step(
    methods: FoundMethods,
    dims: Dims,
    shardings: Shardings,
    blend: Any,
    like: Any,
    mu: Any = None,
    measurement: Measurement | None = None,
) -> tuple[Any, Any, list[Array | None]]:
    """Return the polar factors of a tree of matrices, in the dtypes of `like`.

    Also return the momentum `mu`, if given, and what `measurement` measures of each leaf.
    """
    named, treedef = leaves_by_path(blend), jax.tree.structure(blend)
    leaves = [*named.values()]
    momenta = [None] * len(leaves) if mu is None else treedef.flatten_up_to(mu)
    matrix_map = choose_map(methods_of(methods, named), blend, shardings)
    views = matrix_views(dims, blend)
    polars, momenta, numbers = matrix_map.map(leaves, views, momenta, measurement)
    polars = jax.tree.map(
        lambda x, p: saturating_cast(x, p.dtype), treedef.unflatten(polars), like
    )
    return polars, treedef.unflatten(momenta), numbers
