"""The simulation's formulas equal the HLO and what is worked out by hand."""

import itertools
import math
from collections import Counter

import pytest

from benchmarks.hlo import Collective, collectives, count, flops
from benchmarks.scaling.machines import Nodes, Torus
from benchmarks.scaling.models import MODELS, Case
from benchmarks.scaling.schemes import dion, gather, owners, rounds
from benchmarks.sharding.formula import ours
from benchmarks.sharding.layouts import METHOD, OURS, compiled, layouts, optimizers
from muon_optax.batching._grid import grid_of
from muon_optax.batching._ownership import _SMALLEST_PART

pytestmark = pytest.mark.slow


def check_formula(layout):
    step = ours(layout, METHOD)
    text = compiled(layout, optimizers(layout)[OURS]).as_text()
    moved = collectives(text)
    assert not any(c.in_loop for c in moved)
    # A team's scales, one number for each matrix, are in no formula.
    assert count(moved) == count(step.moves)
    assert sum(c.received for c in moved) == pytest.approx(step.received)
    assert flops(text) == pytest.approx(step.branches)
    assert step.flops <= step.branches


@pytest.mark.parametrize("name", layouts(16))
def test_formula_and_hlo_agree(name):
    check_formula(layouts(16)[name])


@pytest.mark.parametrize("name", [n for n in layouts(32) if "matri" in n])
def test_formula_and_hlo_agree_where_matrices_are_divided(name, monkeypatch):
    monkeypatch.setitem(_SMALLEST_PART, "cpu", 1.0)
    check_formula(layouts(32)[name])


def test_fillers_are_a_share_of_what_travels(monkeypatch):
    dozen = layouts(32)["FSDP, 12 matrices"]
    assert ours(dozen, METHOD).fillers == 4 / 16  # of a second matrix for each of eight
    monkeypatch.setitem(_SMALLEST_PART, "cpu", 1.0)
    assert ours(dozen, METHOD).fillers == 0  # the last four have two devices each


@pytest.mark.parametrize(
    ("group", "kind", "expected"),
    [
        # Scaling book: B(N-1)/(N·W) in a node; twice that; B(N-1)/(N²·W), of all bytes 8·B.
        (range(8), "all-gather", 7 / 8 / 450e9),
        (range(8), "all-reduce", 2 * 7 / 8 / 450e9),
        (range(8), "all-to-all", 7 / 8 / 450e9),
        # B(M-1)/(M·W_node) of M nodes, and B(M-1)/(M²·W_node) of all bytes 64·B.
        (range(64), "all-gather", 7 / 8 / 400e9),
        (range(64), "all-to-all", 64 * 7 / 64 / 400e9),
        # Replicas on eight nodes, one device of each in a group: its own 50 GB/s.
        (range(0, 64, 8), "all-gather", 7 / 8 / 50e9),
        # Every other device of eight nodes: four share what comes in.
        (range(0, 64, 2), "all-gather", 7 / 8 / 200e9),
        (range(0, 8, 2), "all-gather", 3 / 4 / 450e9),
    ],
)
def test_a_collective_takes_as_long_as_its_formula_says(group, kind, expected):
    seconds = Nodes().seconds(Collective(kind, 1e9, tuple(group)), {})
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
    move = Collective(kind, 1e9, tuple(range(math.prod(sides))))
    assert Torus().seconds(move, {"a": sides}) == pytest.approx(1e9 * expected)


def busiest_link(groups: list[list[int]], is_ring: bool) -> float:
    """Bytes, of eight devices, where each has one byte for an all-to-all of its group."""
    load: Counter[tuple[int, int]] = Counter()
    for group in groups:
        for start, end in itertools.permutations(group, 2):
            steps = (1, -1) if is_ring else (1 if start < end else -1,)
            hops = {step: (end - start) * step % 8 for step in steps}
            taken = [step for step in steps if hops[step] == min(hops.values())]
            for step in taken:
                for i in range(hops[step]):
                    load[(start + step * i) % 8, step] += 1 / len(group) / len(taken)
    return max(load.values())


@pytest.mark.parametrize("is_ring", [True, False])
@pytest.mark.parametrize("factors", [(0,), (1,), (2,), (0, 1), (1, 2), (0, 2), (0, 1, 2)])
def test_an_all_to_all_of_groups_takes_as_long_as_its_busiest_link(factors, is_ring):
    groups = grid_of({"a": 8}).groups(tuple(f"a/{factor}" for factor in factors))
    move = Collective("all-to-all", 1.0, tuple(groups[0]))
    machine = Torus(link=1.0, around=8 if is_ring else 9)
    assert machine.seconds(move, {"a": (8,)}) == pytest.approx(busiest_link(groups, is_ring))


def test_groups_whose_devices_alternate_share_their_links():
    def seconds(*group):
        return Torus(link=1.0).seconds(
            Collective("all-gather", 1.0, group), {"a": (2,), "b": (4,)}
        )

    assert seconds(0, 1) == 1 / 2  # one link
    assert seconds(0, 4) == 1 / 2  # along the side of two
    assert seconds(0, 2) == 1 / 2 / (2 / 2)  # with 1 and 3 both ways around
    assert seconds(0, 1, 2, 3) == 3 / 4 / 2
    assert seconds(0, 2, 4, 6) == 3 / 4 / (1 + 2 / 2)


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
