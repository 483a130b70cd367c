"""Optax's generic tests of every optimizer, run with ours among its optimizers."""

import importlib
import inspect
import os
import re
import unittest

import jax
import jax.numpy as jnp
import optax
import pytest
from optax._src import alias_test
from optax.contrib import _common_test

from muon_optax import compat, muon
from muon_optax.dims import RANK_TWO


def drop_in(learning_rate: optax.ScalarOrSchedule):
    return compat.muon(learning_rate)


def rows_by_muon(learning_rate: optax.ScalarOrSchedule):
    """`muon` with every vector as a matrix of one row: Optax's problems are mostly vectors."""
    tx = muon(learning_rate, dims=RANK_TWO, adam_learning_rate=learning_rate)
    lift = lambda tree: jax.tree.map(lambda x: x[None] if x.ndim == 1 else x, tree)

    def update(updates, state, params=None, **extra_args):
        lifted, state = tx.update(lift(updates), state, lift(params), **extra_args)
        return jax.tree.map(lambda u, g: u.reshape(g.shape), lifted, updates), state

    return optax.GradientTransformationExtraArgs(lambda params: tx.init(lift(params)), update)


STABLE = "test_state_shape_dtype_shard_stability"
OF_CONTRIB = [  # name of the test, its parameters
    ("test_optimizers_accept_extra_args", {"wrap": False}),
    ("test_optimizers_accept_learning_rate_schedule_if_type_annotated_as_such", {}),
    ("test_optimizers_can_be_wrapped_in_inject_hyperparams", {}),
    *(
        ("test_optimizers", {"target": getattr(_common_test, target), "dtype": "float32"})
        for target in vars(_common_test)
        if target.startswith("_setup_")
    ),
    ("test_preserve_dtype", {"dtype": "bfloat16"}),
    ("test_gradient_accumulation", {"dtype": "bfloat16"}),
    *((STABLE, {"dtype": dtype}) for dtype in (jnp.float16, jnp.bfloat16, jnp.float64)),
]
OF_ALIAS = [  # those of complex numbers
    ("test_optimization", {"target": alias_test._setup_parabola, "dtype": jnp.complex64}),
    (STABLE, {"dtype": jnp.complex64}),
    (STABLE, {"dtype": jnp.complex128}),
]


def run(module, name, **arguments):
    """One of Optax's parameterized tests with parameters of our own; a skip is a failure."""
    tests = next(
        found
        for found in vars(module).values()
        if isinstance(found, type) and issubclass(found, unittest.TestCase)
    )
    case = next(n for n in vars(tests) if re.fullmatch(rf"{name}(\d+|_adam)", n))
    function = inspect.unwrap(getattr(tests, case))
    wanted = inspect.signature(function).parameters
    try:
        function(tests(case), **{n: a for n, a in arguments.items() if n in wanted})
    except unittest.SkipTest as skipped:
        pytest.fail(f"skipped: {skipped}")


def name_of(value):
    if isinstance(value, dict):
        return " ".join(map(name_of, value.values()))
    return str(getattr(value, "__name__", value))


@pytest.mark.parametrize("make", [drop_in, rows_by_muon], ids=name_of)
@pytest.mark.parametrize(
    ("module", "name", "arguments"),
    [(_common_test, *contract) for contract in OF_CONTRIB]
    + [(alias_test, *contract) for contract in OF_ALIAS],
    ids=name_of,
)
def test_optaxs_contract_for_every_optimizer(module, name, arguments, make, monkeypatch):
    monkeypatch.setattr(_common_test, "_get_opt_factory", lambda name: make)
    monkeypatch.setattr(alias_test, "_get_opt", lambda test, name: make)
    alone = {"wrapper_name": None, "wrapper_kwargs": None}
    rate = {"opt_name": "muon", "opt_kwargs": {"learning_rate": 1e-2}}
    run(module, name, **alone, **rate, **arguments)


@pytest.mark.filterwarnings("ignore:Specifying a key")  # of optax.noisy_sgd, in its list
@pytest.mark.parametrize("tx", [compat.muon(1e-2), muon(1e-2, dims="layers in out")])
@pytest.mark.parametrize(
    "name",
    [
        "test_init_with_abstract_input",
        "test_state_sharding_type_init_match_update",
        "test_state_sharding_type_preserved_with_jit",
    ],
)
def test_optaxs_contract_for_sharded_states(name, tx, monkeypatch):
    monkeypatch.setenv("XLA_FLAGS", os.environ["XLA_FLAGS"])  # which its module overwrites
    monkeypatch.setattr(jax, "__version__", "9")  # it compares versions as strings
    run(importlib.import_module("optax._src.sharding_test"), name, optimizer=tx)
