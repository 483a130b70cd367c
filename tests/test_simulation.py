"""The simulation's formulas equal the HLO and what is worked out by hand."""

import pytest

from benchmarks.hlo import collectives, flops
from benchmarks.scaling.machines import Nodes, Torus
from benchmarks.scaling.models import MODELS, Case
from benchmarks.scaling.schemes import dion, gather, owners, rounds
from benchmarks.sharding.formula import Move, ours
from benchmarks.sharding.layouts import METHOD, OURS, compiled, layouts, optimizers

pytestmark = pytest.mark.slow


@pytest.mark.parametrize("name", layouts(16))
def test_formula_and_hlo_agree(name):
    layout = layouts(16)[name]
    step = ours(layout, METHOD)
    text = compiled(layout, optimizers(layout)[OURS]).as_text()
    moved = collectives(text)
    assert not any(c.in_loop for c in moved)
    # A team's scale, one number for each matrix, is in no formula.
    scales = 2 * 7 / 8 * 4 * sum(c.kind == "all-reduce" and c.bytes == 4 for c in moved)
    received = sum(c.received for c in moved) - scales
    assert received == pytest.approx(sum(m.received for m in step.moves))
    assert flops(text) == pytest.approx(step.branches)
    assert step.flops <= step.branches


@pytest.mark.parametrize(
    ("mesh", "axes", "kind", "expected"),
    [
        # Scaling book: B(N-1)/(N·W) in a node; twice that; B(N-1)/(N²·W), of all bytes 8·B.
        ({"a": (8,)}, ("a",), "all-gather", 7 / 8 / 450e9),
        ({"a": (8,)}, ("a",), "all-reduce", 2 * 7 / 8 / 450e9),
        ({"a": (8,)}, ("a",), "all-to-all", 7 / 8 / 450e9),
        # B(M-1)/(M·W_node) of M nodes, and B(M-1)/(M²·W_node) of all bytes 64·B.
        ({"a": (64,)}, ("a",), "all-gather", 7 / 8 / 400e9),
        ({"a": (64,)}, ("a",), "all-to-all", 64 * 7 / 64 / 400e9),
        # Replicas on eight nodes, one device of each in a group: its own 50 GB/s.
        ({"a": (8,), "b": (8,)}, ("a",), "all-gather", 7 / 8 / 50e9),
        ({"a": (8,), "b": (8,)}, ("b",), "all-gather", 7 / 8 / 450e9),
    ],
)
def test_a_collective_takes_as_long_as_its_formula_says(mesh, axes, kind, expected):
    group = {"a": mesh["a"][0], "b": 8}[axes[0]]
    seconds = Nodes().seconds(Move(kind, 1e9, axes, group), mesh)
    assert seconds == pytest.approx(1e9 * expected)


@pytest.mark.parametrize(
    ("sides", "kind", "expected"),
    [
        ((16,), "all-gather", 15 / 16 / 180e9),
        ((4, 4, 4), "all-gather", 63 / 64 / 540e9),
        ((2, 2, 2), "all-gather", 7 / 8 / 270e9),  # no links around
        ((16,), "all-to-all", 16 / 4 / 180e9),  # V/(4·W) on a ring, V = 16·B
        ((4, 4, 4), "all-to-all", 4 / 4 / 180e9),
        ((8, 8, 16), "all-to-all", 16 / 4 / 180e9),
        ((2, 2, 2), "all-to-all", 2 / 4 / 90e9),
    ],
)
def test_a_collective_takes_as_long_on_a_torus(sides, kind, expected):
    case = Case("GPT-2 XL", {"a": sides})
    move = Move(kind, 1e9, ("a",), case.mesh["a"])
    assert Torus().seconds(move, case.torus) == pytest.approx(1e9 * expected)


@pytest.fixture
def five(monkeypatch):
    """Five matrices, of 1, 2 and 3 million entries."""
    sides = {"small": (1000, 1000), "wide": (1000, 2000), "wider": (1000, 3000)}
    monkeypatch.setitem(MODELS, "GPT-2 XL", (1, sides | {"b": (1000, 1000), "c": (1000, 1000)}))
    return lambda **torus: Case("GPT-2 XL", torus)


def test_dion_pads_each_shape_to_the_devices(five):
    moves = dion(five(fsdp=(2,))).moves
    # Three squares are four, two on each; one of either other is two, one on each.
    assert [move.bytes for move in moves] == [2 * 2e6] * 2 + [2 * 2e6] * 2 + [2 * 3e6] * 2
    assert {move.kind for move in moves} == {"all-to-all"}
    assert sum(move.received for move in moves) == 2 * (4e6 + 4e6 + 6e6) / 2
    gathers = dion(five(data=(2,))).moves
    assert [move.bytes for move in gathers] == [2 * 4e6, 2 * 4e6, 2 * 6e6]


def test_work_of_the_schemes_is_shared_as_they_share_it(five):
    def work(n):  # of five stages: two large products of m·m·n and one small each
        return 5 * (2 * 2e6 * n + 2e9)

    small, wide, wider = map(work, (1000, 2000, 3000))
    assert gather(five(fsdp=(2,))).flops == 3 * small + wide + wider
    assert dion(five(fsdp=(2,))).flops == 2 * small + wide + wider
    assert owners(five(fsdp=(2,))).flops == max(wider + small, wide + 2 * small)
    assert rounds(five(data=(2,))).flops == wider + small + small
    assert [m.bytes for m in rounds(five(data=(2,))).moves] == [24e6, 8e6, 8e6]
