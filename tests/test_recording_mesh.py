"""Measures recorded on a mesh: who takes them, what moves, and that they are one device's."""

import re
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from jax.sharding import AxisType, NamedSharding
from jax.sharding import PartitionSpec as P
from sharded import (
    KINDS,
    METHOD,
    divides_small_matrices,  # noqa: F401
    mesh_of,
    run,
)

from benchmarks.hlo import collectives, count
from muon_optax import NewtonSchulz, scale_by_muon
from muon_optax.diagnostics import MEASURES, latest, record_updates


@pytest.fixture(autouse=True)
def forget_programs():
    """JAX keeps programs by method and measures, and knows nothing of what a test patches."""
    jax.clear_caches()
    yield
    jax.clear_caches()


def recorder(mesh, shardings, method=METHOD, **options):
    """The polar step, recorded every second time; what it gets is at an angle to gradients."""
    is_automatic = mesh is not None and mesh.axis_types[0] == AxisType.Auto
    bend = optax.stateless(lambda g, _: jax.tree.map(lambda x: x + x**3, g))
    shardings = shardings if is_automatic else None
    return record_updates(2, bend, method, shardings=shardings, **options)


def run_recorder(tx, grads):
    """A step's program as text, its updates and what it records."""
    text, updates, state = run(tx, grads)
    return text, updates, latest(state)[1]


def run_on_mesh(grads, specs, kind=AxisType.Auto, **options):
    """The same on eight devices, with one spec for all leaves or a tree of them."""
    mesh = mesh_of(kind)
    leaves, treedef = jax.tree.flatten(grads)
    specs = [specs] * len(leaves) if isinstance(specs, P) else treedef.flatten_up_to(specs)
    shardings = treedef.unflatten([NamedSharding(mesh, spec) for spec in specs])
    tx = recorder(mesh, shardings, **options)
    return run_recorder(tx, jax.device_put(grads, shardings))


def outside_branches(text):
    """A program's collectives that run in every step."""
    called = r"(branch_computations=\{[^}]*\}|(true|false)_computation=%?[\w.-]+)"
    return collectives(re.sub(called, "", text))


def moves(text):
    return count(collectives(text))


def matrices(number, shape=(16, 32)):
    """Whose ranks and angles all differ."""
    return list(jax.random.normal(jax.random.key(0), (number, *shape)))


# How twelve equal matrices lie, and what a record moves: blocks of the gradients to the owners
# where matrices are cut, and all numbers to all devices.
LAYOUTS = {
    "cut along both": (P("fsdp", "tp"), {"all-to-all": 2, "all-gather": 1}),
    "cut in two": (P(None, "tp"), {"all-to-all": 2, "all-gather": 1}),
    "replicated": (P(), {"all-gather": 1}),
}


@pytest.mark.parametrize("name", LAYOUTS)
def test_a_record_moves_the_gradients_and_its_numbers(name):
    """Eight matrices, a device each, and four that are left over: two buckets."""
    spec, expected = LAYOUTS[name]
    text, _, _ = run_on_mesh(matrices(12), spec)
    always, all_moves = outside_branches(text), collectives(text)
    in_branch = list(all_moves)
    for one in always:
        in_branch.remove(one)
    assert count(in_branch) == expected
    there = [one.bytes for one in in_branch if one.kind == "all-to-all"]
    # What the polar factors' way has there and back: half of it is the gradients' way.
    there_and_back = [one.bytes for one in always if one.kind == "all-to-all"]
    assert sum(there) == sum(there_and_back) / 2
    (numbers,) = (one.bytes for one in in_branch if one.kind == "all-gather")
    assert numbers == 8 * 2 * (len(MEASURES) + 17) * 4  # devices, matrices of each, float32


def test_what_moves_in_every_step_is_what_moves_without_a_record():
    """Also of a fused axis whose cuts leave no blocks: its gradient waits to be gathered."""
    grads, on_mesh = jnp.ones((24, 16)), NamedSharding(mesh_of(), P("tp", "fsdp"))
    options: dict[str, Any] = {"dims": "in out[q=8 k=4 v=4]", "shardings": on_mesh}
    tx, x = scale_by_muon(METHOD, **options), jax.device_put(grads, on_mesh)
    plain = jax.jit(tx.update).lower(x, tx.init(x), x).compile().as_text()
    text, _, _ = run_on_mesh(grads, P("tp", "fsdp"), dims=options["dims"])
    assert count(outside_branches(text)) == moves(plain)
    assert moves(text)["all-gather"] == moves(plain)["all-gather"] + 2


@pytest.mark.parametrize(
    ("number", "spec", "work"),
    [
        (17, P("fsdp", "tp"), "whole"),  # two each, one that is left over
        (3, P(), "whole"),
        (12, P("fsdp", "tp"), "divided"),  # eight, and four by teams of two
        (1, P(None, "tp"), "divided"),
    ],
)
def test_no_matrix_is_measured_twice(number, spec, work, monkeypatch, request):
    """Each by its owner, or by one member of the team that owns it."""
    if work == "divided":
        request.getfixturevalue("divides_small_matrices")
    calls = []

    def measure(g, m, o):
        jax.debug.callback(calls.append, jnp.full([], len(o)))
        return MEASURES["momentum_stable_rank"](g, m, o)

    monkeypatch.setitem(MEASURES, "counted", measure)
    grads, options = matrices(number), {"measures": ("counted",), "method": NewtonSchulz()}
    _, _, measured = run_on_mesh(grads, spec, **options)
    jax.effects_barrier()
    assert sum(map(int, calls)) == number
    _, _, expected = run_recorder(recorder(None, None, **options), grads)
    jax.tree.map(lambda x, y: np.testing.assert_allclose(x, y, rtol=1e-5), measured, expected)


# That tell gradients, matrices and polar factors apart, with one decomposition.
DISTINCT = ("gradient_cosine", "momentum_stable_rank", "update_rms")

# Of every kind of view and cut: a spec, a shape, how it is cut.
LEAVES = {
    "wide": ("in out", (16, 32), P("fsdp", "tp")),
    "tall": ("in out", (32, 16), P("fsdp", "tp")),
    "replicated": ("in out", (12, 20), P(None, None)),
    "left over": ("layers in out", (11, 16, 32), P(None, "tp", None)),
    "layers cut": ("layers in out", (8, 12, 20), P("fsdp", None, "tp")),
    "layers and experts cut": ("layers experts in out", (4, 6, 8, 12), P("fsdp", "tp")),
    "experts cut first": ("layers experts in out", (3, 8, 8, 12), P(None, ("tp", "fsdp"))),
    "heads in an axis": ("in (heads=4 out)", (16, 24), P("tp", "fsdp")),
    "heads cut across": ("in (heads=6 out)", (16, 24), P("tp", "fsdp")),
    "heads after a batch": ("layers in (heads=4 out)", (2, 8, 24), P("tp", None, "fsdp")),
    "fused, cut": ("in out[q=8 k=4 v=4]", (24, 16), P("tp", "fsdp")),
    "fused layers": ("layers in out[q=8 k=4 v=4]", (4, 24, 16), P("fsdp", "tp", None)),
    "empty": ("in out", (0, 8), P(None, None)),
}


@pytest.mark.slow
@pytest.mark.parametrize("kind", KINDS)
def test_every_matrix_has_the_numbers_of_one_device(kind):
    """In the order of the leaf's matrices, however these are cut and whoever owns them."""
    leaves = LEAVES if kind == AxisType.Auto else dict([*LEAVES.items()][4::3])
    keys = jax.random.split(jax.random.key(0), len(leaves))
    grads = {n: jax.random.normal(k, leaves[n][1]) for k, n in zip(keys, leaves)}
    dims = {name: spec for name, (spec, _, _) in leaves.items()}
    specs = {name: cut for name, (_, _, cut) in leaves.items()}
    options: dict[str, Any] = {"dims": dims, "method": METHOD, "measures": DISTINCT}
    _, _, found = run_on_mesh(grads, specs, kind, **options)
    _, _, expected = run_recorder(recorder(None, None, **options), grads)
    for name, measured in expected.items():
        for measure, numbers in measured.items():
            message = f"{measure} of {name}"
            np.testing.assert_allclose(
                found[name][measure], numbers, rtol=1e-4, atol=1e-5, err_msg=message
            )


@pytest.mark.slow
@pytest.mark.usefixtures("divides_small_matrices")
def test_members_of_a_team_measure_whole_matrices():
    """Eleven matrices, the last three in teams, one of which has a filler."""
    options: dict[str, Any] = {"method": NewtonSchulz(), "measures": DISTINCT}
    for shape, spec in (((16, 20), P("fsdp", "tp")), ((20, 16), P(None, "tp"))):
        grads = matrices(11, shape)
        _, _, expected = run_recorder(recorder(None, None, **options), grads)
        _, _, found = run_on_mesh(grads, spec, **options)
        check = lambda x, y: np.testing.assert_allclose(x, y, rtol=1e-3, atol=1e-4)
        jax.tree.map(check, found, expected)


def test_what_is_measured_is_what_travels():
    """A polar factor in bfloat16, but none of the arithmetic of its measure."""
    grads, method = matrices(8), NewtonSchulz(compute_dtype="bfloat16")
    names = ("orthogonality_error", "update_rms")
    _, updates, found = run_on_mesh(grads, P("fsdp", "tp"), method=method, measures=names)
    for x, measured in zip(updates, found.values()):
        o = np.asarray(x, np.float64)
        assert np.array_equal(o, x.astype("bfloat16"))
        error = np.linalg.norm(np.eye(16) - o @ o.T) / 4
        assert measured["orthogonality_error"] == pytest.approx(error, rel=1e-5)
        assert measured["update_rms"] == pytest.approx(np.sqrt((o**2).mean()), rel=1e-5)


def test_a_record_stays_until_the_next_and_a_step_compiles_once():
    mesh = mesh_of()
    on_mesh = NamedSharding(mesh, P("fsdp", "tp"))
    tx, x = recorder(mesh, on_mesh), jax.device_put(jnp.eye(16, 32), on_mesh)
    state = jax.device_put(tx.init(x), NamedSharding(mesh, P()))
    update, steps = jax.jit(tx.update), []
    for scale in (1.0, 2.0, 3.0):
        _, state = update(scale * x, state)
        steps.append((latest(state)[0], latest(state)[1][""]["momentum_stable_rank"]))
    assert [step for step, _ in steps] == [0, 0, 2]
    np.testing.assert_allclose([rank for _, rank in steps], 16, rtol=1e-5)
