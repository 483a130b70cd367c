"""Variants of Muon: against their formulas, on logical matrices, on a mesh, in every dtype.

A variant joins the shared tests by an entry in `VARIANTS`.
"""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from jax.sharding import AxisType, NamedSharding
from jax.sharding import PartitionSpec as P
from sharded import (
    METHOD,
    close,
    forget_meshes,  # noqa: F401
    given,
    mesh_of,
)

from benchmarks.track.variants.adaptive import scale_by_entry_rms
from benchmarks.track.variants.equilibrated import equilibrate_neurons
from benchmarks.track.variants.hyperball import step_on_sphere
from benchmarks.track.variants.muown import separate_neuron_norms
from benchmarks.track.variants.renormalized import renormalize_updates
from muon_optax import (
    SVD,
    MuonDimensionNumbers,
    NewtonSchulz,
    normalize_sides,
    partition_matrices,
    scale_by_muon,
)
from muon_optax.transforms._momentum import accumulate_momentum
from muon_optax.transforms._orthogonalize import orthogonalize_momentum

POLAR = NewtonSchulz(METHOD.coefficients, 1)  # where the method does not matter


def muon_eq(rate=0.1, dims=None, shardings=None, method=POLAR, **options):
    momentum = accumulate_momentum(dims=dims, **options)
    momentum = equilibrate_neurons(momentum, dims=dims)
    polar = orthogonalize_momentum(momentum, method, dims, shardings)
    return optax.chain(polar, optax.scale_by_learning_rate(rate))


def muon_plus(rate=0.1, dims=None, shardings=None, method=POLAR, **options):
    return optax.chain(
        scale_by_muon(method, dims=dims, shardings=shardings, **options),
        normalize_sides(dims=dims),
        optax.scale_by_learning_rate(rate),
    )


def hyperball(rate=0.1, dims=None, shardings=None, method=POLAR, **options):
    polar = scale_by_muon(method, dims=dims, shardings=shardings, **options)
    return optax.chain(polar, step_on_sphere(rate, dims=dims))


def adamuon(rate=0.1, dims=None, shardings=None, method=POLAR, **options):
    return optax.chain(
        scale_by_muon(method, dims=dims, shardings=shardings, **options),
        scale_by_entry_rms(dims=dims),
        optax.scale_by_learning_rate(rate),
    )


def muown(rate=0.1, dims=None, shardings=None, method=POLAR, **options):
    polar = scale_by_muon(method, dims=dims, shardings=shardings, **options)
    direction = optax.chain(polar, optax.scale_by_learning_rate(rate))
    # Adam's ε is on the scale of the gradients; Lion has none.
    magnitude = optax.lion(rate, weight_decay=0.0)
    return separate_neuron_norms(direction, magnitude, dims=dims)


# Name → a function from a learning rate, `dims`, `shardings`, a method and options of the
# momentum to a chain.
VARIANTS = {
    "MuonEq": muon_eq,
    "Muon+": muon_plus,
    "Hyperball": hyperball,
    "AdaMuon": adamuon,
    "Muown": muown,
}

every_variant = pytest.mark.parametrize("make", VARIANTS.values(), ids=VARIANTS)


def normal(*shape, seed=0):
    return jax.random.normal(jax.random.key(seed), shape)


def step(tx, grads, params):
    """The updates of a first step."""
    return jax.jit(lambda g, p: tx.update(g, tx.init(p), p)[0])(grads, params)


SIDES = {"wide": (4, 6), "tall": (6, 4)}

# Formulas, in NumPy and float64.


def polar(x):
    u, _, vh = np.linalg.svd(x, full_matrices=False)
    return u @ vh


def unit(x, axes=None, eps=0.0):
    """`x/√(‖x‖² + ε)` over some axes, all unless said."""
    return x / np.sqrt((x**2).sum(axes, keepdims=True) + eps)


def by_formula(w, grads, variant, rate):
    """The weights after steps of Muon with Nesterov's momentum, `[fan_in, fan_out]`."""
    mu, radius, weights = 0.0, np.linalg.norm(w), []
    for g in grads:
        mu = 0.95 * mu + 0.05 * g
        blend = 0.95 * mu + 0.05 * g
        if variant == "MuonEq":
            w = w - rate * polar(unit(blend, 0))
        elif variant == "Muon+":
            w = w - rate * unit(unit(polar(blend), 0, 1e-7), 1, 1e-7)
        else:
            w = radius * unit(w - rate * radius * unit(polar(blend)))
        weights.append(w)
    return weights


@pytest.mark.usefixtures("x64")
@pytest.mark.parametrize("name", ["MuonEq", "Muon+", "Hyperball"])
def test_three_steps_equal_the_formula(name):
    """With the exact polar factor, in float64."""
    rng = np.random.default_rng(0)
    start = {side: rng.standard_normal(shape) for side, shape in SIDES.items()}
    # Outputs of unequal size, so that a norm over the other side would be seen.
    grads = {
        side: rng.standard_normal((3, *shape)) * np.logspace(-2, 2, shape[1])
        for side, shape in SIDES.items()
    }
    tx = VARIANTS[name](0.3, method=SVD(), bias_correction=False)

    @jax.jit
    def train(params, grads):
        def one(carry, g):
            params, state = carry
            updates, state = tx.update(g, state, params)
            params = optax.apply_updates(params, updates)
            return (params, state), params

        return jax.lax.scan(one, (params, tx.init(params)), grads)[1]

    found = train(start, grads)
    for side in SIDES:
        expected = by_formula(start[side], grads[side], name, 0.3)
        np.testing.assert_allclose(found[side], expected, atol=1e-6)


def test_muon_plus_equals_its_formula_where_eps_is_seen_and_over_whole_matrices():
    """Rows of the authors' code are outputs: columns of the view."""
    o = np.random.default_rng(0).standard_normal((4, 6))
    o[:, 0] *= 1e-4
    expected = {
        normalize_sides(): unit(unit(o, 0, 1e-7), 1, 1e-7),
        normalize_sides(eps=1e-2): unit(unit(o, 0, 1e-2), 1, 1e-2),
        renormalize_updates(): 4**0.5 * unit(o),
    }
    for tx, update in expected.items():
        found = jax.jit(lambda o, tx=tx: tx.update(o, tx.init(o))[0])(o)
        np.testing.assert_allclose(found, update, atol=1e-6)


def test_weights_of_half_precision_keep_their_initial_norm():
    """With the norm of the present weights, rounding moves it by 8e-3 in these steps."""
    w = (0.05 * normal(32, 32)).astype("bfloat16")
    tx = step_on_sphere(0.02)

    def one(carry, u):
        w, state = carry
        updates, state = tx.update(u, state, w)
        return (optax.apply_updates(w, updates), state), None

    updates = jnp.tile(normal(8, 32, 32, seed=1).astype("bfloat16"), (40, 1, 1))
    (after, _), _ = jax.lax.scan(one, (w, tx.init(w)), updates)
    before, after = (np.linalg.norm(np.asarray(x, np.float64)) for x in (w, after))
    assert abs(after / before - 1) < 2e-4


@pytest.mark.parametrize("dtype", ["float16", "float32"])
def test_a_step_to_the_other_side_of_the_largest_sphere_is_finite(dtype):
    u, largest = jnp.array([[1.0, 0.0]], dtype), jnp.finfo(dtype).max
    found = step(step_on_sphere(3.0), u, u * largest)
    np.testing.assert_array_equal(found, -u * largest)


# What every variant has in common.


@every_variant
def test_a_leaf_is_trained_matrix_by_matrix(make):
    """Layers of a fused kernel, a convolution, and a matrix whose outputs are its rows."""
    dims = {
        "fused": "layers in out[q=4 kv=4]",
        "conv": MuonDimensionNumbers((0, 1, 2), 3),
        "torch": "out in",
    }
    shapes = {"fused": (2, 6, 8), "conv": (3, 1, 2, 4), "torch": (4, 6)}

    def matrices(tree):
        fused = tree["fused"]
        return [*fused[..., :4], *fused[..., 4:], tree["conv"].reshape(6, 4), tree["torch"].T]

    params, grads = (
        {name: normal(*shape, seed=seed) for name, shape in shapes.items()} for seed in (0, 1)
    )
    found = matrices(step(make(dims=dims), grads, params))
    tx = make()
    alone = jax.jit(lambda g, p: tx.update(g, tx.init(p), p)[0])
    expected = [*map(alone, matrices(grads), matrices(params))]
    close(found, expected, within=1e-5)


@every_variant
def test_eight_devices_do_what_one_does(make):
    """On explicit axes, which refuse this leaf's reshape; XLA shards on automatic ones."""
    dims, pair = "in in out[q=8 k=4]", [normal(4, 8, 12, seed=seed) for seed in (0, 1)]
    on_mesh = NamedSharding(mesh_of(AxisType.Explicit), P(None, "tp", "fsdp"))
    tx = make(dims=dims, shardings=given(on_mesh))
    found = step(tx, *jax.device_put(pair, on_mesh))
    close(found, step(make(dims=dims), *pair), within=1e-5)
    assert found.sharding.is_equivalent_to(on_mesh, 3)


@functools.cache
def two_steps(make, **options):
    """A compiled function from gradients of two steps to the last updates of a stack."""
    tx = make(dims="layers in out", **options)

    def run(grads, params):
        _, state = tx.update(grads[0], tx.init(params), params)
        return tx.update(grads[1], state, params)[0]

    return jax.jit(run)


STACK, STACK_GRADS = normal(3, 4, 5), normal(2, 3, 4, 5, seed=1)


@every_variant
def test_the_scale_of_all_gradients_does_not_matter(make):
    expected = two_steps(make)(STACK_GRADS, STACK)
    for exponent in (-100, -60, 60, 100):
        found = two_steps(make)(STACK_GRADS * 2.0**exponent, STACK)
        np.testing.assert_allclose(found, expected, rtol=1e-6, atol=1e-7)


@every_variant
def test_a_nan_stays_in_its_matrix(make):
    """Of a stack. Under "skip" that matrix does not move."""
    expected = two_steps(make)(STACK_GRADS, STACK)
    broken = STACK_GRADS.at[1, 1, 2, 3].set(jnp.nan)
    found = two_steps(make)(broken, STACK)
    assert not np.isfinite(found[1]).all()
    close(found[::2], expected[::2], within=1e-5)
    if make is muown:  # its optimizer of norms has no "skip"
        return
    skipped = two_steps(make, on_nonfinite="skip")(broken, STACK)
    assert not skipped[1].any()
    close(skipped[::2], expected[::2], within=1e-5)


DTYPES = ("float16", "bfloat16", "float32", "complex64")
HARD = {
    "zero": jnp.zeros((3, 4)),
    "rank one": jnp.outer(jnp.arange(1.0, 4), jnp.arange(1.0, 5)),
    "large": 1e30 * normal(3, 4),
    "small": 1e-30 * normal(3, 4),
    "columns of any size": normal(3, 4) * jnp.array([1e-30, 1e30, 1.0, 0.0]),
    "subnormal": jnp.full((3, 4), 1e-40),
    "one number": jnp.zeros((3, 4)).at[1, 2].set(1.0),
}


@every_variant
def test_finite_gradients_and_weights_give_finite_updates_and_keep_their_dtypes(make):
    """In stacks; under scan, which refuses a state of other shapes or dtypes than before."""
    largest = {d: jnp.full((3, 4), float(jnp.finfo(d).max)) for d in DTYPES}
    grads = {d: jnp.stack([normal(3, 4), largest[d]]).astype(d) for d in DTYPES}
    grads |= {"hard": jnp.stack([*HARD.values()]), "empty": jnp.zeros((2, 0, 4))}
    tx = make(dims="layers in out")

    @jax.jit
    def run(grads, params):
        def one(state, _):
            updates, state = tx.update(grads, state, params)
            return state, updates

        return jax.lax.scan(one, tx.init(params), None, length=2)

    ones = jax.tree.map(jnp.ones_like, grads)
    for params in (ones, {**grads, "hard": grads["hard"].at[0].set(1.0)}):
        state, updates = run(grads, params)
        for x in jax.tree.leaves((state, updates)):
            assert np.isfinite(np.asarray(x, "complex64")).all()
        assert {d: updates[d].dtype for d in DTYPES} == {d: jnp.dtype(d) for d in DTYPES}
        assert not updates["hard"][:, 0].any()


@every_variant
def test_a_whole_model_trains_at_an_injected_rate(make):
    """As at a constant one."""

    def model(rate):
        return partition_matrices(functools.partial(make, rate), optax.sgd(0.1))

    grads, params = (
        {"up": {"kernel": kernel, "bias": jnp.zeros(5)}} for kernel in (STACK[1], STACK[0])
    )
    updates = step(optax.inject_hyperparams(model)(0.1), grads, params)
    expected = step(make(0.1), STACK[1], STACK[0])
    close(updates["up"]["kernel"], expected, within=1e-5)


def test_muon_plus_takes_an_injected_eps():
    expected = step(normalize_sides(1e-2), STACK[0], STACK[0])
    found = step(optax.inject_hyperparams(normalize_sides)(eps=1e-2), STACK[0], STACK[0])
    np.testing.assert_allclose(found, expected, rtol=1e-6)


ZERO = {"up": {"kernel": jnp.zeros((2, 3, 4)).at[0].set(1.0)}}
BIAS = {"bias": jnp.ones(3)}
SEPARATED = separate_neuron_norms(optax.sgd(0.1), optax.sgd(0.1))
MISTAKES = {
    "momentum='svd'; use accumulate_momentum": lambda: equilibrate_neurons("svd"),
    "eps=0.0; use a number > 0": lambda: normalize_sides(eps=0.0),
    r"b2=1.0; use a number in \[0, 1\)": lambda: scale_by_entry_rms(1.0),
    "learning_rate=-0.1; use a number ≥ 0, or a sch": lambda: step_on_sphere(-0.1),
    "'up/kernel'.*is zero": lambda: step_on_sphere(0.1, dims="layers in out").init(ZERO),
    "params=None; use update": lambda: step_on_sphere(0.1).update(BIAS, None),
    r"params=None; use update\(": lambda: SEPARATED.update(BIAS, None),
}


@pytest.mark.parametrize("message", MISTAKES)
def test_bad_arguments_say_what_to_write(message):
    with pytest.raises(ValueError, match=message):
        MISTAKES[message]()


@every_variant
def test_a_leaf_that_is_no_matrix_is_named(make):
    with pytest.raises(ValueError, match=r"'bias'.*needs two axes"):
        make().init(BIAS)


def test_a_schedule_of_the_rate_moves_on():
    tx, w = step_on_sphere(lambda count: 0.5 - 0.5 * count), jnp.eye(2)
    u = jnp.array([[0.0, 1.0], [1.0, 0.0]])
    init, update = jax.jit(tx.init), jax.jit(tx.update)
    first, state = update(u, init(w), w)
    second, _ = update(u, state, w)
    assert np.abs(first).max() > 0.1
    np.testing.assert_allclose(second, 0, atol=1e-6)
