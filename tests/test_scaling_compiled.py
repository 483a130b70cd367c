"""Meshes that are not there, and the table of what is compiled for them."""

import jax
import pytest
from jax.errors import JaxRuntimeError

from benchmarks.hlo import Collective
from benchmarks.scaling import compiled, main
from benchmarks.scaling.machines import WIRES
from benchmarks.scaling.tables import compiled as table
from benchmarks.sharding.layouts import OPTAX, OURS
from muon_optax.estimates._targets import TARGETS

CASE, V5P = compiled.CASES[0], TARGETS["v5p"]


@pytest.mark.parametrize(
    ("target", "torus", "name"),
    [
        ("v5e", {"fsdp": (2, 4)}, "2x4"),
        ("v5p", {"data": (2,), "fsdp": (4, 4)}, "2x4x4"),
        ("h100", {"fsdp": (2, 4)}, "1x1x8"),
        ("h100", {"fsdp": (4, 4, 4)}, "1x8x8"),
        ("h100", {"fsdp": (2, 2)}, "1x1x4"),
    ],
)
def test_a_mesh_has_the_name_that_its_compiler_knows(target, torus, name):
    assert compiled.topology(TARGETS[target], torus) == name


def test_a_side_of_four_is_linked_around_on_a_v5p_and_not_on_a_v5e():
    move, torus = Collective("all-to-all", 1e9, tuple(range(8))), {"fsdp": (2, 4)}
    assert WIRES["v5p"].seconds(move, torus) == pytest.approx(1e9 * 2 / 4 / 90e9)
    assert WIRES["v5e"].seconds(move, torus) == pytest.approx(1e9 * 4 / 4 / 45e9)


def test_parameters_and_momenta_are_updated_in_place():
    mesh = jax.make_mesh((8,), ("fsdp",), axis_types=(jax.sharding.AxisType.Auto,))
    cut = jax.sharding.NamedSharding(mesh, jax.sharding.PartitionSpec("fsdp"))
    params = {"up": jax.ShapeDtypeStruct((16, 8), "float32")}
    tx = compiled.muon(1.0, dims={"up": "in out"}, shardings={"up": cut})
    program = compiled.lower(tx, params, {"up": cut}).compile()
    assert program.memory_analysis().alias_size_in_bytes >= 2 * 16 * 8 * 4 // 8


ROW = {
    "collectives": {"all-to-all": 6},
    "asynchronous": 5,
    "received": 2e9,
    "by_formula": {"received": 2e9},
    "computing_s": 3e-3,
    "wire_s": 2e-3,
    "waiting_s": 5e-4,
    "argument_bytes": 1e9,
    "temp_bytes": 5e8,
    "compile_s": 12.0,
}


def test_a_row_says_what_is_hidden_and_what_no_device_can_hold(monkeypatch):
    def fail(*_):
        raise JaxRuntimeError("RESOURCE_EXHAUSTED: Ran out of memory on HBM, 109G. More.")

    monkeypatch.setattr(compiled, "measure", fail)
    failed = compiled.measured(CASE, OPTAX, V5P)
    ours, theirs = table({"v5p": {"it": {OURS: ROW, OPTAX: failed}}}).splitlines()[2:]
    cells = "6 all-to-all | 5 | 2 | 2 | 3 | 2 | 75% | 1 + 0.5 | 12"
    assert ours == f"| v5p, it | `muon` | {cells} |"
    assert "RESOURCE_EXHAUSTED: Ran out of memory on HBM, 109G |" in theirs
    assert ours.count("|") == theirs.count("|")


def test_a_target_without_such_meshes_is_an_error():
    with pytest.raises(SystemExit, match="--target v6e: use some of v5p, h100"):
        main(targets=["v6e"])
