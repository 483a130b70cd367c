"""Teams of devices: they divide the products of a matrix, and the result is the same."""

import math
import re
from collections import Counter

import jax
import jax.numpy as jnp
import pytest
from jax.sharding import NamedSharding
from jax.sharding import PartitionSpec as P
from sharded import (
    METHOD,
    close,
    divides_small_matrices,  # noqa: F401
    forget_meshes,  # noqa: F401
    mesh_of,
    on_eight,
    on_one,
    run,
)

from benchmarks.hlo import collectives, count, flops
from muon_optax import METHODS, DualNorm, NewtonSchulz, scale_by_muon
from muon_optax.compat import RoundedNewtonSchulz

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
@pytest.mark.usefixtures("divides_small_matrices")
def test_a_team_divides_every_product(name, method):
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


@pytest.mark.usefixtures("divides_small_matrices")
def test_twelve_matrices_are_divided_among_eight_devices():
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
@pytest.mark.usefixtures("divides_small_matrices")
def test_seeds_are_batched_and_differentiated_on_a_mesh():
    """Eight matrices travel along an axis of the mesh, those of a team among a part of it."""
    sharding = NamedSharding(mesh_of(shape=(8,), names=("fsdp",)), P(None, "fsdp"))
    seeds = list(jax.random.normal(jax.random.key(0), (12, 2, 16, 32)))

    def derivative(tx):
        def loss(grads):
            updates, _ = tx.update(grads, tx.init(grads))
            return sum(jnp.sum(jnp.cos(x)) for x in updates)

        return jax.jit(jax.vmap(jax.grad(loss)))(seeds)

    expected = derivative(scale_by_muon(METHOD))
    # A derivative has the differences that roundings leave of nearly equal numbers.
    close(derivative(scale_by_muon(METHOD, shardings=sharding)), expected, within=1e-4)


PARTICULAR = {  # methods that are not a polynomial of a matrix or its transpose, as one may
    "rows scaled apart": (NewtonSchulz(METHOD.coefficients, normalize="aol"), (16, 16)),
    "the same, in a team": (NewtonSchulz(METHOD.coefficients, normalize="aol"), (16, 128)),
    "scaled by an inner product, in a team": (DualNorm(METHOD), (16, 128)),
    "rounded": (RoundedNewtonSchulz("keller"), (16, 16)),
}


@pytest.mark.parametrize("name", PARTICULAR)
@pytest.mark.usefixtures("divides_small_matrices")
def test_a_method_gets_the_matrices_that_it_gets_on_one_device(name):
    """Not transposed where a square is cut, nor in parts unless its plan says how."""
    method, shape = PARTICULAR[name]
    x = jax.random.normal(jax.random.key(0), shape)
    _, found, _ = on_eight(x, P(None, ("fsdp", "tp")), method)
    close(found, on_one(x, method), within=1e-6)
