"""Devices share the polar step: what each does, what moves, and that the result is the same."""

import functools
import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import AxisType, NamedSharding
from jax.sharding import PartitionSpec as P
from sharded import (
    KINDS,
    METHOD,
    close,
    forget_meshes,  # noqa: F401
    given,
    mesh_of,
    on_eight,
    on_one,
    run,
)

from benchmarks.hlo import collectives, count, flops
from muon_optax import METHODS, NewtonSchulz, scale_by_muon

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


@pytest.mark.parametrize(("shape", "dims"), [((0, 8), "(heads=2 in) out"), ((8, 0), "in out")])
def test_an_empty_leaf_stays_empty(shape, dims):
    _, found, _ = on_eight([jnp.ones(shape), jnp.ones((8, 8))], P(None, None), dims=dims)
    assert found[0].shape == shape and np.isfinite(found[1]).all()
