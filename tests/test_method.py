"""A method of a user's own, with and without the optional methods, wherever methods run."""

from dataclasses import dataclass, field

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from jax.sharding import Mesh, NamedSharding
from jax.sharding import PartitionSpec as P

from muon_optax import (
    SVD,
    DualNorm,
    MethodPlan,
    NewtonSchulz,
    muon,
    orthogonalize,
    scale_by_muon,
)
from muon_optax._platform import by_platform
from muon_optax.compat import RoundedNewtonSchulz
from muon_optax.polar._presets import find_method


@dataclass(frozen=True)
class Cubic:
    """`x ↦ 1.5·x - 0.5·x·xᵀ·x` five times, of `x/‖x‖_F`."""

    def polar(self, x):
        norm = jnp.linalg.norm(x, axis=(-2, -1), keepdims=True)
        y = x / jnp.where(norm > 0, norm, 1)
        for _ in range(5):
            y = 1.5 * y - 0.5 * y @ y.mT @ y
        return y


@dataclass(frozen=True)
class BatchedCubic(Cubic):
    """The same, for stacks that share a short side; counts its calls."""

    calls: list = field(default_factory=list, compare=False)

    def plan(self, m, n, dtype, platform):
        return MethodPlan(flops=20 * m * m * n, bucket=(m, str(dtype)))

    def prepare(self, x, platform):
        return {"matrices": x}

    def polar_stacks(self, operands, platform, team=None):
        self.calls.append(platform)
        return [self.polar(operand["matrices"]) for operand in operands]


class Unhashable(Cubic):
    __hash__ = None


KEYS = jax.random.split(jax.random.key(0), 3)
PARAMS = {
    "up": {"kernel": jax.random.normal(KEYS[0], (8, 32))},
    "down": {"kernel": jax.random.normal(KEYS[1], (32, 8))},
    "side": {"kernel": jax.random.normal(KEYS[2], (8, 16)), "bias": jnp.ones(16)},
}
METHODS = [Cubic(), BatchedCubic()]


def step(tx, params, jit=jax.jit):
    return jit(tx.update)(params, tx.init(params), params)[0]


def assert_close(found, expected):
    for x, y in zip(jax.tree.leaves(found), jax.tree.leaves(expected), strict=True):
        np.testing.assert_allclose(x, y, atol=1e-5)


@pytest.fixture
def expected():
    """Every matrix by itself: Nesterov's first blend is a multiple of the gradient."""
    rate = -0.1
    return {
        path: rate * np.sqrt(max(1, np.divide(*x.shape[::-1]))) * Cubic().polar(x)
        for path, x in ((path, leaf["kernel"]) for path, leaf in PARAMS.items())
    }


@pytest.mark.parametrize("method", METHODS, ids=["polar alone", "all methods"])
def test_a_users_method_runs_on_one_device_and_when_injected(method, expected):
    tx = muon(0.1, method, adam_learning_rate=1e-3)
    injected = optax.inject_hyperparams(muon)(0.1, method, adam_learning_rate=1e-3)
    for found in (step(tx, PARAMS), step(injected, PARAMS)):
        for path, of in expected.items():
            assert_close(found[path]["kernel"], of)


@pytest.mark.parametrize(
    "method",
    [*METHODS, Unhashable()],
    ids=["polar alone", "all methods", "unhashable"],
)
def test_a_users_method_runs_on_a_mesh(method, expected):
    mesh = Mesh(np.array(jax.devices()), ("data",))
    placed = jax.tree.map(lambda x: jax.device_put(x, NamedSharding(mesh, P("data"))), PARAMS)
    shardings = jax.tree.map(lambda x: x.sharding, placed)
    found = step(muon(0.1, method, adam_learning_rate=1e-3, shardings=shardings), placed)
    for path, of in expected.items():
        assert_close(found[path]["kernel"], of)


def test_stacks_whose_plans_have_equal_buckets_go_through_one_call():
    method = BatchedCubic()
    matrices = {"up": jnp.ones((6, 32)), "down": jnp.ones((32, 6)), "side": jnp.ones((6, 16))}
    jax.eval_shape(
        lambda x: scale_by_muon(method).update(x, scale_by_muon(method).init(x)), matrices
    )
    assert sorted(method.calls) == ["cpu", "gpu", "tpu"]  # each traced once for all three


def test_a_dual_norm_shares_products_as_its_inner_method_does():
    matrices = {path: leaf["kernel"] for path, leaf in PARAMS.items()}

    def products(method, matrices):
        tx = scale_by_muon(method)
        lowered = jax.jit(tx.update).lower(matrices, tx.init(matrices))
        return lowered.as_text().count("stablehlo.dot_general")

    assert products(DualNorm(NewtonSchulz()), matrices) == products(NewtonSchulz(), matrices)
    one = {"up": matrices["up"]}
    assert products(NewtonSchulz(), matrices) < 2 * products(NewtonSchulz(), one)


def test_each_platform_gets_its_own_program():
    factors = {"cpu": 2.0, "gpu": 3.0, "tpu": 4.0}
    multiply = jax.jit(lambda x: by_platform(lambda platform, x: x * factors[platform], x))
    traced = multiply.trace(jnp.ones(2))
    for name, platform in {"cpu": "cpu", "cuda": "gpu", "rocm": "gpu", "tpu": "tpu"}.items():
        program = traced.lower(lowering_platforms=(name,)).as_text()
        assert f"dense<{factors[platform]}" in program
    assert multiply(jnp.ones(2)).tolist() == [2.0, 2.0]


def test_a_repr_is_short_and_names_what_differs():
    assert repr(NewtonSchulz()) == "NewtonSchulz('jordan', 5)"
    assert repr(NewtonSchulz("you", 4, eps=1e-7)) == "NewtonSchulz('you', 4, eps=1e-07)"


def test_plain_numbers_are_one_configuration_in_any_container():
    rows = ((4.08, -6.89, 2.93), (3.95, -6.3, 2.64))
    methods = {
        NewtonSchulz(rows),
        NewtonSchulz([*map(list, rows)]),
        NewtonSchulz(np.array(rows)),
    }
    assert [repr(method) for method in methods] == [f"NewtonSchulz({rows}, 2)"]
    assert NewtonSchulz(rows, 3).schedule == (*rows, rows[1])
    with pytest.raises(ValueError, match=r"^\(\(5.0, -9.0\),\) is unstable in float32"):
        NewtonSchulz((5, -9))


def test_a_method_is_found_by_its_name():
    assert find_method("svd") == SVD() and find_method("cans") == NewtonSchulz("cans", 12)
    assert find_method("near_exact:6") == NewtonSchulz("polar_express", 6, "schatten4")
    assert find_method(method := Cubic()) is method
    for text, near in {
        "polar_expres:8": "polar_express",
        "svdd": "svd",
        "svd:3": "svd",
    }.items():
        with pytest.raises(ValueError, match=f"unknown name '{text}'; .* mean '{near}'"):
            find_method(text)


def test_the_polar_factor_of_zero_is_zero_in_every_method():
    for method in (*METHODS, NewtonSchulz(), DualNorm()):
        assert not orthogonalize(jnp.zeros((2, 3, 4)), method).any()


@pytest.mark.parametrize(
    "method", [NewtonSchulz(normalize="aol"), RoundedNewtonSchulz("keller")]
)
def test_a_square_reaches_a_method_as_fan_in_by_fan_out_whatever_its_layout(method):
    """Rows scaled apart, or roundings, tell a square from its transpose."""
    x = jax.random.normal(jax.random.key(0), (16, 16))

    def update(x, dims):
        tx = scale_by_muon(method, dims=dims)
        return tx.update(x, tx.init(x))[0]

    eps = float(jnp.finfo(x.dtype).eps)
    np.testing.assert_allclose(update(x.T, "out in").T, update(x, "in out"), atol=8 * eps)


def test_a_method_that_returns_other_shapes_is_refused():
    class Transposing:
        def polar(self, x):
            return x.mT

    tx = scale_by_muon(Transposing())
    x = {"w": jnp.ones((4, 6))}
    with pytest.raises(ValueError, match=r"returned shapes .*6, 4.* for .*4, 6"):
        tx.update(x, tx.init(x))
    with pytest.raises(ValueError, match="return the same shapes"):
        orthogonalize(x["w"], Transposing())


def test_a_method_is_final_or_complete():
    with pytest.raises(TypeError, match="NewtonSchulz cannot be subclassed"):

        class Doubled(NewtonSchulz):
            pass

    class Stacked(Cubic):
        polar_stacks = BatchedCubic.polar_stacks

    class Planned(Stacked):
        plan = BatchedCubic.plan

    for method, missing in ((Stacked(), "plan and prepare"), (Planned(), "prepare")):
        with pytest.raises(ValueError, match=f"it also needs {missing}; see BatchedMethod"):
            scale_by_muon(method)


def test_muon_and_orthogonalize_take_a_method_by_its_name():
    params = {"kernel": jnp.diag(jnp.array([3.0, 2.0, 1.0]))}
    exact = NewtonSchulz("polar_express", 8).polar(params["kernel"])
    assert jnp.array_equal(orthogonalize(params["kernel"], "polar_express:8"), exact)
    tx = scale_by_muon("polar_express:8")
    assert jnp.allclose(tx.update(params, tx.init(params))[0]["kernel"], exact, atol=1e-6)
    with pytest.raises(ValueError, match="did you mean 'svd'"):
        muon(0.1, "svdd", record_every=1)
