"""Devices share the polar step: what each does, what moves, and that the result is the same."""

import functools
import math
import re
from collections import Counter

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from jax.sharding import AxisType, NamedSharding
from jax.sharding import PartitionSpec as P

from benchmarks.hlo import collectives, count, flops
from muon_optax import (
    FLAX,
    METHODS,
    DualNorm,
    NewtonSchulz,
    Rule,
    muon,
    scale_by_muon,
    scale_by_shape,
)
from muon_optax.batching import _ownership
from muon_optax.compat import RoundedNewtonSchulz
from muon_optax.diagnostics import record_updates
from muon_optax.transforms._normuon import scale_by_neuron_rms


@pytest.fixture(autouse=True, scope="module")
def forget_meshes():
    """JAX's inner functions remember the automatic mesh that they were first traced on."""
    yield
    jax.clear_caches()


KINDS = (AxisType.Auto, AxisType.Explicit)
# Every leaf `[in, out]` on a mesh of 4 × 2: buckets, and what collectives each of them has.
LAYOUTS = {
    "replicated": (P(), 2, {"all-gather": 1}),
    "cut along the first axis": (P(("fsdp", "tp"), None), 3, {"all-to-all": 2}),
    "cut along the last axis": (P(None, ("fsdp", "tp")), 3, {"all-to-all": 2}),
    "cut along both": (P("fsdp", "tp"), 3, {"all-to-all": 2}),
    "cut in two, replicated four times": (P(None, "tp"), 3, {"all-to-all": 2, "all-gather": 1}),
}
EACH = [(AxisType.Auto, name) for name in LAYOUTS]
EACH += [(AxisType.Explicit, name) for name in ("replicated", "cut along both")]


def mesh_of(*kinds, shape=(4, 2), names=("fsdp", "tp")):
    """A mesh whose axes are of one kind, automatic unless said, or each of its own."""
    devices = jax.devices("cpu")[: math.prod(shape)]
    kinds = kinds if len(kinds) == len(names) else (kinds or KINDS)[:1] * len(names)
    return jax.make_mesh(shape, names, axis_types=kinds, devices=devices)


def tree(seed):
    """Eight matrices of every shape, in single leaves and in a stack."""
    shapes = {"q": (32, 32), "o": (32, 32), "up": (32, 64), "down": (64, 32)}
    rng = np.random.default_rng(seed)
    leaves = [(f"{name}{i}", shapes[name]) for name in shapes for i in range(2)]
    leaves += [(f"{name}s", (6, *shape)) for name, shape in shapes.items()]
    return {name: jnp.asarray(rng.normal(size=s), jnp.float32) for name, s in leaves}


DIMS = {name: "layers in out" if x.ndim == 3 else "in out" for name, x in tree(0).items()}


def cut(mesh, spec):
    """The tree's shardings: the matrices cut so, stacks not along their first axis."""
    stacks = P(None, *spec)
    return {
        name: NamedSharding(mesh, stacks if "layers" in dims else spec)
        for name, dims in DIMS.items()
    }


def close(found, expected, within):
    """Relative to what is expected, in the Frobenius norm: entries shrink as matrices grow."""
    for x, y in zip(jax.tree.leaves(found), jax.tree.leaves(expected), strict=True):
        assert np.linalg.norm(np.asarray(x) - y) <= within * np.linalg.norm(y)


def given(sharding):
    """What has to be said of a mesh whose axes are automatic."""
    leaves = jax.tree.leaves(sharding)
    return sharding if leaves[0].mesh.axis_types[0] == AxisType.Auto else None


# A product of another batch is summed in another order. Under the paper's polynomials that is
# up to 4e-7 of the polar factor, under the default's 2e-6: 4e-8 in a parameter's update.
METHOD = METHODS["taylor2"]


def run(tx, x):
    """A step's program as text, its updates and the state after it."""
    compiled = jax.jit(tx.update).lower(x, tx.init(x), x).compile()
    return compiled.as_text(), *compiled(x, tx.init(x), x)


def on_eight(x, shardings, method=METHOD, **options):
    """The step on a mesh of eight; leaves are cut by one spec or by shardings."""
    if isinstance(shardings, P):
        shardings = NamedSharding(mesh_of(), shardings)
    tx = scale_by_muon(method, shardings=given(shardings), **options)
    return run(tx, jax.device_put(x, shardings))


def on_one(x, method=METHOD, **options):
    """One device's updates."""
    tx = scale_by_muon(method, **options)
    return jax.jit(tx.update)(x, tx.init(x))[0]


@functools.cache
def alone():
    """One device's updates, and its flops."""
    text, updates, _ = run(scale_by_muon(METHOD, dims=DIMS), tree(1))
    return updates, flops(text)


@pytest.mark.slow
@pytest.mark.parametrize(("kind", "name"), EACH)
def test_eight_devices_share_the_step_of_one(kind, name):
    """The same updates by an eighth of the work, and no more moves than the formula says."""
    spec, buckets, each = LAYOUTS[name]
    shardings = cut(mesh_of(kind), spec)
    text, updates, state = on_eight(tree(1), shardings, dims=DIMS)
    expected, work = alone()
    close(updates, expected, within=1e-6)
    for found in (updates, state.mu):
        for x, sharding in zip(*map(jax.tree.leaves, (found, shardings)), strict=True):
            assert x.sharding.is_equivalent_to(sharding, x.ndim)
    # A bucket is collected once and returned once.
    moved = collectives(text)
    assert count(moved) == {kind: number * buckets for kind, number in each.items()}
    assert not any(one.in_loop for one in moved)
    assert flops(text) / work == pytest.approx(1 / 8, rel=0.1)
    received = sum(one.received for one in moved)
    assert received == pytest.approx(bytes_to_receive(spec, expected), rel=0.1)


def bytes_to_receive(spec, updates):
    """All-to-alls carry the parts that a device lacks of its matrices, all-gathers the rest."""
    axes = [a for entry in spec for a in (entry if type(entry) is tuple else (entry,))]
    shards = math.prod({"fsdp": 4, "tp": 2}[axis] for axis in axes if axis)
    size = sum(x.nbytes for x in jax.tree.leaves(updates))
    there_and_back = 2 * (shards - 1) / shards * size / 8
    return there_and_back + (1 - shards / 8) * size / shards


@pytest.mark.parametrize("init", [lambda init: init, jax.jit], ids=["eager", "jit"])
@pytest.mark.parametrize("kind", KINDS)
def test_momentum_lies_as_its_parameters_from_the_beginning(kind, init):
    mesh = mesh_of(kind)
    shardings = {"a": NamedSharding(mesh, P("fsdp", "tp")), "b": NamedSharding(mesh, P("tp"))}
    params = jax.device_put({"a": jnp.ones((8, 8)), "b": jnp.ones((8, 6))}, shardings)
    with jax.set_mesh(mesh):
        state = init(scale_by_muon(shardings=given(shardings)).init)(params)
    for mu, sharding in zip(jax.tree.leaves(state.mu), jax.tree.leaves(shardings)):
        assert mu.sharding.is_equivalent_to(sharding, mu.ndim)


class Counting:
    """The method's polar factor, every call told to the host with the size of its batch."""

    def __init__(self, method=METHODS["taylor1"]):
        self.method, self.calls = method, []

    def polar(self, x):
        jax.debug.callback(self.calls.append, jnp.full([], len(x)))
        return self.method.polar(x)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("number", "spec"),
    [(1, P("fsdp", "tp")), (17, P("fsdp", "tp")), (13, P(None, "tp")), (3, P())],
)
def test_no_matrix_is_worked_on_twice_whatever_their_number(number, spec):
    """Devices without a matrix more than others leave the filler alone."""
    # A larger one, too, so that replicas differ in who has least.
    grads = [*jax.random.normal(jax.random.key(0), (number, 8, 16)), jnp.ones((8, 32))]
    method = Counting()
    _, updates, _ = on_eight(grads, spec, method)
    jax.effects_barrier()
    assert sum(map(int, method.calls)) == number + 1
    close(updates, on_one(grads, method.method), within=1e-6)


@pytest.mark.slow
def test_whole_matrices_stay_where_they_are():
    """Scanned layers, cut along the axis of layers."""
    stack, dims = jax.random.normal(jax.random.key(0), (16, 8, 12)), "layers in out"
    text, found, _ = on_eight(stack, P(("fsdp", "tp")), NewtonSchulz(), dims=dims)
    assert collectives(text) == []
    close(found, on_one(stack, NewtonSchulz(), dims=dims), within=1e-6)


@pytest.fixture
def divides_small_matrices(monkeypatch):
    """Matrices of a test are small, and would be left whole."""
    jax.clear_caches()
    monkeypatch.setitem(_ownership._SMALLEST_PART, "cpu", 0.0)
    yield
    jax.clear_caches()


# Of a matrix too large for one device: its shape, how it lies, the other moves.
LARGE = {
    "wide, long side cut": ((32, 512), P(None, ("fsdp", "tp")), {}),
    "tall, long side cut": ((512, 32), P(("fsdp", "tp"), None), {}),
    "short side cut": ((32, 512), P(("fsdp", "tp"), None), {"all-to-all": 2}),
    "both cut": ((512, 32), P("fsdp", "tp"), {"all-to-all": 2}),
    "replicated": ((32, 512), P(), {"all-gather": 1}),
    "short side cut, replicated": ((32, 512), P("tp"), {"all-to-all": 2, "all-gather": 1}),
    "a short side that no team divides": ((36, 512), P(None, ("fsdp", "tp")), {}),
}
TEAMS = [(name, NewtonSchulz()) for name in LARGE]
TEAMS += [
    ("both cut", METHODS["polar_express"]),
    ("both cut", NewtonSchulz(form="direct")),
    ("short side cut", NewtonSchulz(METHODS["taylor3"].coefficients, normalize="schatten4")),
]


@pytest.mark.slow
@pytest.mark.parametrize(("name", "method"), TEAMS)
def test_a_team_divides_every_product(name, method, divides_small_matrices):
    """It exchanges one number, and of each stage one or two matrices of the short side."""
    shape, spec, others = LARGE[name]
    x = jax.random.normal(jax.random.key(0), shape)
    text, updates, _ = on_eight(x, spec, method)
    found, plan = collectives(text), method.plan(*shape)
    sums, gathers = len(plan.segments), sum(len(s) > 3 for s in method.schedule)
    gathers += sum(2 * stages if stages > 1 else 1 for stages in plan.segments)
    expected = Counter(others) + Counter({"reduce-scatter": sums, "all-gather": sums + gathers})
    expected["all-reduce"] = 1
    assert count(found) == expected
    work, rows = flops(run(scale_by_muon(method), x)[0]), math.ceil(plan.m / 8)
    assert flops(text) / work <= 1.01 * rows / plan.m
    close(updates, on_one(x, method), within=1e-5)


def test_twelve_matrices_are_divided_among_eight_devices(divides_small_matrices):
    """Eight of them whole and four by teams of two, by two all-to-alls each."""
    grads = list(jax.random.normal(jax.random.key(0), (12, 32, 64)))
    text, updates, _ = on_eight(grads, P("fsdp", "tp"))
    assert count(collectives(text))["all-to-all"] == 4
    work = flops(run(scale_by_muon(METHOD), grads)[0])
    assert flops(text) / work == pytest.approx(1 / 8, rel=0.01)
    close(updates, on_one(grads), within=1e-6)


def test_tall_matrices_travel_tall_unless_there_are_wide_ones_alike():
    """Blocks of eight rows of each; as columns, in one exchange, beside wide matrices."""
    mesh = mesh_of(shape=(8,), names=("tp",))
    tall, wide = (NamedSharding(mesh, spec) for spec in (P("tp"), P(None, "tp")))
    down = list(jax.random.normal(jax.random.key(0), (8, 64, 32)))
    up = list(jax.random.normal(jax.random.key(1), (8, 32, 64)))
    for x, shardings, block in (
        (down, [tall] * 8, "1,8,32"),
        (down + up, [tall] * 8 + [wide] * 8, "2,32,8"),
    ):
        text, updates, _ = on_eight(x, shardings)
        sent = re.findall(r"f32\[\d+,([\d,]+)\]\S* all-to-all\(", text)
        assert sent == [block] * 2
        close(updates, on_one(x), within=1e-6)


@pytest.mark.slow
@pytest.mark.parametrize("number", [8, 12])
def test_seeds_are_batched_and_differentiated_on_a_mesh(number, divides_small_matrices):
    """Whole matrices travel along an axis of the mesh, those of a team among a part of it."""
    sharding = NamedSharding(mesh_of(shape=(8,), names=("fsdp",)), P(None, "fsdp"))
    seeds = list(jax.random.normal(jax.random.key(0), (number, 2, 16, 32)))

    def derivative(tx):
        def loss(grads):
            updates, _ = tx.update(grads, tx.init(grads))
            return sum(jnp.sum(jnp.cos(x)) for x in updates)

        return jax.jit(jax.vmap(jax.grad(loss)))(seeds)

    expected = derivative(scale_by_muon(METHOD))
    # A derivative has the differences that roundings leave of nearly equal numbers.
    close(derivative(scale_by_muon(METHOD, shardings=sharding)), expected, within=1e-4)


# Views of every kind, how they are cut, and their all-gathers: where that leaves no blocks, one
# to take the axis whole, and one back for each bucket.
FUSED = "in out[q=8 k=4 v=4]"
VIEWED = {
    "heads": ("in heads out", (16, 4, 12), P("tp", "fsdp", None), 0),
    "heads as batch": ("heads in out", (8, 6, 12), P("fsdp", None, "tp"), 0),
    "head dimension": ("in out out", (16, 3, 8), P(None, None, ("fsdp", "tp")), 0),
    "convolution": ("in in in out", (3, 3, 8, 16), P(None, None, "tp", "fsdp"), 0),
    "heads in an axis, cut between": ("in (heads=4 out)", (16, 24), P("tp", "fsdp"), 0),
    "heads in an axis, cut within": ("in (heads=4 out)", (16, 24), P(None, ("fsdp", "tp")), 0),
    "heads in an axis, cut across": ("in (heads=6 out)", (16, 24), P("tp", "fsdp"), 2),
    "heads in an axis, one cut across": ("in (heads=2 out)", (16, 24), P("tp", "fsdp"), 2),
    "heads in an axis, all across": ("in (heads=6 out)", (16, 24), P(None, ("tp", "fsdp")), 2),
    "a fused axis, cut elsewhere": (FUSED, (24, 16), P(("fsdp", "tp"), None), 0),
    "a fused axis, cut": (FUSED, (24, 16), P("tp", "fsdp"), 3),
    "a square's either side": ("layers in out", (3, 16, 16), P(None, "fsdp", "tp"), 0),
}
VIEWS = {name: spec for name, (spec, *_) in VIEWED.items()}


@functools.cache
def viewed():
    """Arrays of every view, and one device's updates."""
    keys = jax.random.split(jax.random.key(0), len(VIEWED))
    x = {n: jax.random.normal(k, VIEWED[n][1]) for k, n in zip(keys, VIEWED)}
    return x, on_one(x, dims=VIEWS)


@pytest.mark.slow
@pytest.mark.parametrize("kind", KINDS)
def test_every_view_is_cut_as_it_lies(kind):
    mesh = mesh_of(kind)
    shardings = {name: NamedSharding(mesh, cut) for name, (_, _, cut, _) in VIEWED.items()}
    x, expected = viewed()
    text, updates, _ = on_eight(x, shardings, dims=VIEWS)
    for name, y in updates.items():
        close(y, expected[name], within=1e-6)
        assert y.sharding.is_equivalent_to(shardings[name], y.ndim), name
    gathered = count(collectives(text)).get("all-gather", 0)
    assert gathered == sum(whole for *_, whole in VIEWED.values())


# A model with leaves of every kind, and how they are cut.
MODEL = {
    "embedding": ((32, 16), P(None, "fsdp")),
    "query/kernel": ((16, 8, 4), P("fsdp", "tp")),
    "query/bias": ((8, 4), P("tp")),
    "out/kernel": ((8, 4, 16), P("tp", None, "fsdp")),
    "layers/up/kernel": ((5, 16, 32), P(None, "fsdp", "tp")),
    "fused/kernel": ((16, 24), P("fsdp", "tp")),
    "norm/scale": ((16,), P()),
}
RULES = (
    Rule("layers", "layers", "layers in out"),
    Rule("fused", "fused", "in out[q=16 k=4 v=4]"),
    *FLAX,
)


def model(seed):
    keys = jax.random.split(jax.random.key(seed), len(MODEL))
    return {name: jax.random.normal(k, MODEL[name][0]) for k, name in zip(keys, MODEL)}


def train(kind=None):
    """Three steps of the default, on a mesh of that kind or on one device."""
    shardings, place = None, lambda tree: tree
    if kind:
        specs = {name: spec for name, (_, spec) in MODEL.items()}
        if kind == AxisType.Explicit:  # with another spelling than JAX's a step compiles twice
            specs = {n: P(*s, *[None] * (len(MODEL[n][0]) - len(s))) for n, s in specs.items()}
        shardings = {name: NamedSharding(mesh_of(kind), spec) for name, spec in specs.items()}
        place = functools.partial(jax.device_put, device=shardings)
    options = {"weight_decay": 0.1, "dims": RULES, "record_every": 2}
    rate = optax.linear_schedule(0.02, 0.0, 10)
    tx = muon(rate, **options, shardings=shardings and given(shardings))

    @functools.partial(jax.jit, donate_argnums=(0, 1))
    def step(params, state, grads):
        updates, state = tx.update(grads, state, params)
        return optax.apply_updates(params, updates), state

    params = place(model(0))
    state = tx.init(params)
    for seed in range(1, 4):
        params, state = step(params, state, place(model(seed)))
    return step, params, state, place(model(4))


@functools.cache
def trained_alone():
    return train()[1]


@pytest.mark.slow
@pytest.mark.parametrize("kind", KINDS)
def test_a_whole_model_trains_as_on_one_device(kind):
    """Decay, shape factors, the fallback and all; compiled once, with one copy of the state."""
    step, params, state, grads = train(kind)
    for x, y in zip(*map(jax.tree.leaves, (params, trained_alone())), strict=True):
        np.testing.assert_allclose(x, y, atol=1e-6)
    assert step._cache_size() == 1
    aliased = step.lower(params, state, grads).compile().memory_analysis().alias_size_in_bytes
    on_one = sum(x.addressable_shards[0].data.nbytes for x in jax.tree.leaves((params, state)))
    assert aliased == on_one


@pytest.mark.slow
@pytest.mark.parametrize("kind", KINDS)
def test_what_stands_beside_muon_takes_the_same_arrays(kind):
    """NorMuon, shape factors and the record, on leaves whose reshape explicit axes refuse."""
    dims = {"heads": "heads in out", "fused": "in out[q=4 k=2 v=2]"}
    shapes = {"heads": (6, 8, 12), "fused": (16, 8)}
    x = {n: jax.random.normal(jax.random.key(0), shape) for n, shape in shapes.items()}
    specs = {"heads": P(None, "tp", "fsdp"), "fused": P("fsdp", "tp")}
    on_mesh = {name: NamedSharding(mesh_of(kind), spec) for name, spec in specs.items()}

    def chain(shardings):
        options = {"dims": dims, "shardings": shardings}
        measures = {"measures": ("orthogonality_error",), **options}
        return optax.chain(
            record_updates(1, optax.identity(), METHOD, **measures),
            scale_by_neuron_rms(dims=dims),
            scale_by_shape("rms_to_rms", dims=dims),
        )

    _, expected, state_of_one = run(chain(None), x)
    _, found, state = run(chain(given(on_mesh)), jax.device_put(x, on_mesh))
    close(found, expected, within=1e-5)
    for pair in zip(*(jax.tree.leaves(s[0].measured) for s in (state, state_of_one))):
        np.testing.assert_allclose(*pair, atol=1e-6)
    for name, y in found.items():
        assert y.sharding.is_equivalent_to(on_mesh[name], y.ndim)


@pytest.mark.parametrize(("dtype", "power"), [("float32", -90), ("float64", -200)])
def test_what_has_bfloat16_products_may_be_as_small_as_its_own_dtype_allows(dtype, power, x64):
    """To the bit: float32 travels in bfloat16, which has its range, float64 as it is."""
    method = NewtonSchulz(compute_dtype="bfloat16")
    x = jax.random.normal(jax.random.key(0), (8, 16, 32), dtype)
    exponents = (0, power)
    large, small = (on_eight(list(x * 2.0**e), P("fsdp", "tp"), method)[1] for e in exponents)
    np.testing.assert_array_equal(small, large)
    assert np.linalg.norm(large) > 1


@pytest.mark.parametrize("kind", KINDS)
def test_an_axis_of_one_device_moves_nothing(kind):
    mesh = mesh_of(kind, shape=(1, 8, 1), names=("data", "fsdp", "tp"))
    grads = list(jax.random.normal(jax.random.key(0), (8, 16, 32)))
    text, _, _ = on_eight(grads, NamedSharding(mesh, P("fsdp", "tp")))
    assert count(collectives(text)) == {"all-to-all": 2}


PARTICULAR = {  # methods that are not a polynomial of a matrix or its transpose, as one may
    "rows scaled apart": (NewtonSchulz(METHOD.coefficients, normalize="aol"), (16, 16)),
    "the same, in a team": (NewtonSchulz(METHOD.coefficients, normalize="aol"), (16, 128)),
    "scaled by an inner product, in a team": (DualNorm(METHOD), (16, 128)),
    "rounded": (RoundedNewtonSchulz("keller"), (16, 16)),
}


@pytest.mark.parametrize("name", PARTICULAR)
def test_a_method_gets_the_matrices_that_it_gets_on_one_device(name, divides_small_matrices):
    """Not transposed where a square is cut, nor in parts unless its plan says how."""
    method, shape = PARTICULAR[name]
    x = jax.random.normal(jax.random.key(0), shape)
    _, found, _ = on_eight(x, P(None, ("fsdp", "tp")), method)
    close(found, on_one(x, method), within=1e-6)


def test_momentum_stays_as_its_parameters_lie_whatever_gradients_do():
    """A replicated kernel, whose gradient is cut along its outputs as activations are."""
    mesh = mesh_of()
    rows, outputs = (NamedSharding(mesh, P("fsdp", *name)) for name in ((), ("tp",)))
    everywhere = NamedSharding(mesh, P())
    kernel, x = jax.device_put((jnp.ones((16, 32)), jnp.ones((8, 16))), (everywhere, rows))
    tx = scale_by_muon(METHOD, shardings=everywhere)

    @jax.jit
    def step(kernel, state):
        def loss(kernel):
            return jnp.sum(jax.lax.with_sharding_constraint(x @ kernel, outputs) ** 4)

        updates, state = tx.update(jax.grad(loss)(kernel), state, kernel)
        return kernel + updates, state

    state = tx.init(kernel)
    for _ in range(3):
        kernel, state = step(kernel, state)
    assert state.mu.sharding.is_equivalent_to(everywhere, 2)
    assert step._cache_size() == 1


@pytest.mark.parametrize(("shape", "dims"), [((0, 8), "(heads=2 in) out"), ((8, 0), "in out")])
def test_an_empty_leaf_stays_empty(shape, dims):
    _, found, _ = on_eight([jnp.ones(shape), jnp.ones((8, 8))], P(None, None), dims=dims)
    assert found[0].shape == shape and np.isfinite(found[1]).all()


def test_a_state_of_keys_and_numbers_passes():
    """A fallback may keep what is no array of numbers."""
    sharding = NamedSharding(mesh_of(), P())
    params = jax.device_put({"kernel": jnp.ones((8, 8)), "bias": jnp.ones(8)}, sharding)
    fallback = optax.chain(optax.add_noise(0.1, 0.5, jax.random.key(0)), optax.sgd(0.1))
    tx = muon(0.1, METHOD, fallback=fallback, shardings=sharding)
    updates, _ = jax.jit(tx.update)(params, tx.init(params), params)
    assert np.isfinite(updates["bias"]).all()
