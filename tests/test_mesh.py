"""A map of a method over many matrices: on one device and on a mesh, whatever the method."""

from dataclasses import dataclass, field

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import AxisType, NamedSharding
from jax.sharding import PartitionSpec as P
from optax.contrib import MuonDimensionNumbers

from muon_optax import SVD, NewtonSchulz
from muon_optax.batching import MeshMap, SingleDeviceMap, choose_map
from muon_optax.dims._view import view_of
from muon_optax.polar._method import MethodPlan


@pytest.fixture(autouse=True, scope="module")
def forget_meshes():
    """JAX's inner functions remember the automatic mesh that they were first traced on."""
    yield
    jax.clear_caches()


SHAPES = {"a": (16, 32), "b": (32, 16), "c": (8, 8), "stack": (3, 16, 32)}
TRACES = []


@dataclass(frozen=True)
class Frozen:
    """Equal instances are one configuration."""

    factor: float = 0.5

    def polar(self, x):
        TRACES.append(x.shape)
        return self.factor * x


@dataclass
class Unhashable:
    """As a user writes a dataclass at first: with `eq`, so without a hash."""

    factors: list = field(default_factory=lambda: [0.5])

    def polar(self, x):
        TRACES.append(x.shape)
        return self.factors[0] * x


@dataclass(frozen=True)
class OnTheWire(Frozen):
    """A method whose matrices may travel in bfloat16."""

    def plan(self, m, n, dtype, platform):
        return MethodPlan(m * m * n, (m, n), "bfloat16" if platform == "cpu" else None)

    def prepare(self, x, platform):
        return x

    def polar_stacks(self, operands, platform, team=None):
        return [self.polar(x) for x in operands]


def mesh_of(kind=AxisType.Auto):
    devices = jax.devices("cpu")[:8]
    return jax.make_mesh((4, 2), ("fsdp", "tp"), axis_types=(kind,) * 2, devices=devices)


def tree(place):
    """Leaves, on a mesh or not, and their views."""
    keys = jax.random.split(jax.random.key(0), len(SHAPES))
    x = {name: jax.random.normal(k, SHAPES[name]) for k, name in zip(keys, SHAPES)}
    if place == "mesh":
        cuts = {name: P(*[None] * (v.ndim - 2), "fsdp", "tp") for name, v in x.items()}
        x = {n: jax.device_put(v, NamedSharding(mesh_of(), cuts[n])) for n, v in x.items()}
    specs = {2: "in out", 3: "layers in out"}
    return x, [view_of(specs[v.ndim], name, v) for name, v in x.items()]


def polars_of(chosen, leaves, views):
    return chosen.map(leaves, views, [None] * len(leaves))[0]


def mapped(method, place):
    x, views = tree(place)
    shardings = jax.tree.map(lambda v: v.sharding, x) if place == "mesh" else None
    chosen = choose_map([method] * len(x), x, shardings)
    assert isinstance(chosen, MeshMap if place == "mesh" else SingleDeviceMap)
    return x, polars_of(chosen, list(x.values()), views)


@pytest.mark.parametrize("place", ["one", "mesh"])
@pytest.mark.parametrize("method", [Frozen, Unhashable])
def test_eager_steps_of_one_method_are_traced_once(method, place):
    """Equal methods share their program by value, others by identity: 1.3 s a step if not."""
    jax.clear_caches()
    own = method()
    mapped(own, place)
    TRACES.clear()
    for _ in range(2):
        again = own if method is Unhashable else method()
        x, found = mapped(again, place)
    assert TRACES == []
    for y, v in zip(found, x.values()):
        np.testing.assert_array_equal(y, 0.5 * v)


@pytest.mark.parametrize("place", ["one", "mesh"])
def test_another_unhashable_method_has_a_program_of_its_own(place):
    mapped(Unhashable(), place)
    x, found = mapped(Unhashable([0.25]), place)
    np.testing.assert_array_equal(found[0], 0.25 * x["a"])


def test_dimension_numbers_may_be_lists_on_a_mesh():
    x, _ = tree("mesh")
    view = view_of(MuonDimensionNumbers([0], [1]), "a", x["a"])
    chosen = choose_map([Frozen()], x["a"], x["a"].sharding)
    np.testing.assert_array_equal(polars_of(chosen, [x["a"]], [view])[0], 0.5 * x["a"])


@pytest.mark.parametrize("place", ["one", "mesh"])
def test_momenta_return_bit_for_bit_each_in_its_place(place):
    """Of a view that moves nothing, and of one that does; a leaf may have none."""
    x, views = tree(place)
    views[1] = view_of("out in", "b", x["b"])
    momenta = [None if name == "c" else 3 * v for name, v in x.items()]
    shardings = jax.tree.map(lambda v: v.sharding, x) if place == "mesh" else None
    chosen = choose_map([NewtonSchulz()] * len(x), x, shardings)
    _, found, _ = chosen.map(list(x.values()), views, momenta)
    assert found[2] is None
    for y, momentum in zip(found, momenta):
        if momentum is not None:
            np.testing.assert_array_equal(y, momentum)
            assert y.sharding == momentum.sharding


@pytest.mark.parametrize("sign", [1, -1])
def test_the_largest_number_of_float32_travels_in_bfloat16(sign):
    """Rounded to the nearest bfloat16 it would be an infinity."""
    largest = np.finfo("float32").max
    x = jax.device_put(jnp.full((8, 16), sign * largest), NamedSharding(mesh_of(), P("fsdp")))
    view = view_of("in out", "x", x)
    chosen = choose_map([OnTheWire(1.0)], x, x.sharding)
    (found,) = polars_of(chosen, [x], [view])
    np.testing.assert_array_equal(found, sign * float(jnp.finfo("bfloat16").max))
    broken = jax.device_put(x.at[0, 0].set(jnp.inf), x.sharding)  # stays what it is
    (found,) = polars_of(chosen, [broken], [view])
    assert np.isinf(found).sum() == 1


@pytest.mark.parametrize("place", ["one", "mesh"])
@pytest.mark.parametrize("method", [Frozen(), OnTheWire(), SVD()])
def test_shapes_and_dtypes_are_promoted_nowhere(method, place):
    with jax.numpy_rank_promotion("raise"), jax.numpy_dtype_promotion("strict"):
        x, found = mapped(method, place)
    assert [y.shape for y in found] == [v.shape for v in x.values()]


@pytest.mark.parametrize("kind", [AxisType.Auto, AxisType.Explicit])
@pytest.mark.parametrize(
    ("platform", "method", "moved"),
    [
        ("cpu", NewtonSchulz(), "f32"),
        ("cpu", NewtonSchulz(compute_dtype="bfloat16"), "bf16"),
        ("cpu", SVD(), "f32"),
        ("tpu", NewtonSchulz(), "bf16"),
        ("cuda", NewtonSchulz(), "bf16"),
    ],
)
def test_what_travels_depends_on_method_and_platform(platform, method, moved, kind):
    sharding = NamedSharding(mesh_of(kind), P("fsdp", "tp"))
    x = jax.ShapeDtypeStruct((16, 32), jnp.float32, sharding=sharding)
    view = view_of("in out", "x", x)
    step = jax.jit(lambda x: polars_of(choose_map([method], x, sharding), [x], [view])[0])
    text = step.trace(x).lower(lowering_platforms=(platform,)).as_text()
    moves = [line for line in text.splitlines() if "all_to_all" in line]
    kinds = [line.split("x")[-1].rstrip(">") for line in moves]
    assert kinds == [moved, moved]
