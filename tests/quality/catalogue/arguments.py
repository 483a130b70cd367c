"""Arguments out of range, and unusual ones that are valid: rows 35 to 51."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from optax.contrib import MuonDimensionNumbers as D

from muon_optax.coefficients import YOU
from tests.quality.catalogue.checks import (
    Wrong,
    check_announced,
    check_close,
    check_refused,
    row,
)
from tests.quality.catalogue.libraries import Library
from tests.quality.catalogue.steps import (
    TOLERANCE,
    check_kernel,
    exact_update,
    first_step,
    grads,
    matrix,
    one_step,
    params,
    run,
)

NAN = float("nan")


def _trials(library: Library, option: str, *values: Any, **others: Any) -> dict[str, Callable]:
    """A step under each value of an option."""
    options = {"learning_rate": 0.1, **others}
    return {
        f"{value!r:.20}": one_step(lambda v=value: library.muon(**{**options, option: v}))
        for value in values
    }


@row(35, "unknown keywords in update", "ignored")
def keywords(library: Library) -> None:
    """Other transformations of a chain take a loss or a step number."""
    check_kernel(run(library.muon(0.1), params(), grads(), value=1.0, step=3)[0])


def _without_params(library: Library, **options: Any) -> Any:
    tx = library.muon(0.1, **options)
    return jax.jit(lambda g, state: tx.update(g, state)[0])(grads(), tx.init(params()))


@row(36, "update without params, no weight decay", "as with them")
def no_params(library: Library) -> None:
    """`optax.GradientTransformation` makes them optional."""
    check_kernel(_without_params(library))


@row(37, "update without params, weight decay", "error naming params")
def no_params_to_decay(library: Library) -> None:
    check_refused("param", {"decay": lambda: _without_params(library, weight_decay=0.1)})


@row(38, "learning rate -1, NaN, ∞, 'high', None", "error naming it")
def learning_rate(library: Library) -> None:
    values = (-1.0, NAN, float("inf"), "high", None)
    check_refused("learning_rate", _trials(library, "learning_rate", *values))


@row(39, "learning rate of shape (3,), (12,)", "error naming it")
def learning_rates(library: Library) -> None:
    """The second could be broadcast against a kernel (8, 12)."""
    values = {f"shape ({n},)": jnp.full(n, 0.1) for n in (3, 12)}
    calls = {k: one_step(lambda rate=v: library.muon(rate)) for k, v in values.items()}
    check_refused("learning_rate", calls)


@row(40, "learning rate of 0 axes, of NumPy, a schedule", "as the number")
def learning_rate_kinds(library: Library) -> None:
    """The first update of the bias is as large as the rate, 1.6 times that under NAdam."""
    for rate in (jnp.asarray(0.1), np.float32(0.1), np.float64(0.1), lambda step: 0.1):
        updates, _ = run(library.muon(rate), params(), grads())
        check_kernel(updates)
        if not 0.09 < np.abs(updates["bias"]).max() < 0.16:
            raise Wrong(f"the update of the bias ignores the rate {rate!r:.20}")


@row(41, "β = -0.1, 1, 1.5, NaN", "error naming it")
def beta(library: Library) -> None:
    """A decay of 1 would divide 0 by 0."""
    check_refused("beta", _trials(library, "beta", -0.1, 1.0, 1.5, NAN))


@row(42, "steps 0, -1, 2.5, '5', 100", "error naming them")
def steps(library: Library) -> None:
    """`torch.optim.Muon` refuses 100 too."""
    check_refused("steps", _trials(library, "steps", 0, -1, 2.5, "5", 100))


@row(43, "coefficients of a wrong shape; too few for the steps", "error naming them")
def coefficients(library: Library) -> None:
    """Or the rows decide how many steps are made, as `optax.contrib` documents."""
    values = ((), (((3.0, -4.0, 2.0),),), 3.0)
    check_refused(r"coeff|stages|famil", _trials(library, "coefficients", *values))
    rows, g = YOU.stages[:3], jnp.asarray(matrix(), jnp.float32)
    try:
        update, _ = first_step(library, g, coefficients=rows, steps=5)
    except (TypeError, ValueError):
        check_refused("coeff|steps", _trials(library, "coefficients", rows, steps=5))
    else:
        check_close(
            update, exact_update(g, rows), TOLERANCE, "update of three rows for five steps"
        )


@row(44, "unknown preset", "error naming it or the argument")
def preset(library: Library) -> None:
    check_refused("coeff|famil|jordn", _trials(library, "coefficients", "jordn"))


@row(45, "coefficients that do not contract", "warning or error naming them")
def diverging(library: Library) -> None:
    """3x and 1.5x + 0.5x³ grow without bound; 1.5x - 2.5x³ maps 1 to -1."""
    triples = ((3.0, 0.0, 0.0), (1.5, 0.5, 0.0), (1.5, -2.5, 0.0))
    check_announced("coeff|singular", _trials(library, "coefficients", *triples))


@row(46, "ε = -1, NaN", "error naming it")
def epsilon(library: Library) -> None:
    check_refused(r"\beps\b", _trials(library, "eps", -1.0, NAN))


@row(47, "weight decay -0.1; None", "error naming it; as 0")
def weight_decay(library: Library) -> None:
    check_refused("weight_decay", _trials(library, "weight_decay", -0.1))
    check_kernel(run(library.muon(0.1, weight_decay=None), params(), grads())[0])


@row(48, "momentum in int32, in 'foo'", "error naming mu_dtype")
def momentum_dtype(library: Library) -> None:
    check_refused("mu_dtype", _trials(library, "mu_dtype", "int32", int, "foo"))


@row(49, "spec with an axis twice, a missing axis, for a vector", "error naming the leaf")
def specs(library: Library) -> None:
    dims = {"axis twice": D(0, 0), "axis 2": D(0, 2), "axis 5": D(0, 5)}
    calls = {
        what: one_step(lambda spec=spec: library.muon(0.1, dims={"kernel": spec, "bias": None}))
        for what, spec in dims.items()
    }
    check_refused("kernel", calls)
    vector = one_step(lambda: library.muon(0.1, dims={"kernel": D(0, 1), "bias": D(0, 1)}))
    check_refused("bias", {"vector": vector})


@row(50, "tree of specs of another structure", "error naming the leaf")
def spec_tree(library: Library) -> None:
    few, many = {"kernel": D(0, 1)}, {"kernel": D(0, 1), "bias": None, "odd": None}
    check_refused("bias", {"few": one_step(lambda: library.muon(0.1, dims=few))})
    check_refused("odd", {"many": one_step(lambda: library.muon(0.1, dims=many))})


@row(51, "a model without a matrix", "warning or error")
def no_matrix(library: Library) -> None:
    """Adam would train all of it."""
    vectors = {"bias": jnp.ones(12)}
    step = lambda: run(library.muon(0.1), vectors, vectors)
    check_announced("[Mm]uon|matri", {"vectors only": step})
