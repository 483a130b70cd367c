"""Which device orthogonalizes what: every matrix has an owner, and all have as much to do."""

import math

import numpy as np
import pytest
from hypothesis import given as given_by
from hypothesis import strategies as st

from benchmarks.shapes import MODELS
from muon_optax import NewtonSchulz
from muon_optax.batching._blocks import BlockLayout
from muon_optax.batching._collectives import Exchange
from muon_optax.batching._grid import grid_of
from muon_optax.batching._ownership import Group, assign_owners
from muon_optax.batching._stages import make_stages
from muon_optax.polar._method import MethodPlan

MESH = grid_of({"data": 2, "fsdp": 4, "tp": 2})
CUTS = [  # batch, short, long
    ((), (), ()),
    ((), ("fsdp",), ()),
    ((), ("tp",), ("fsdp",)),
    (("fsdp",), (), ("tp",)),
    (("data", "fsdp", "tp"), (), ()),
]
LARGE = 2.0**40  # operations that are worth dividing among many devices


def group(sides, cuts, count, grid=MESH, scale=1.0, is_divisible=True):
    """Matrices that cost their size times a scale."""
    layout = BlockLayout(sides, "float32", *map(grid.factors, cuts))
    flops = scale * math.prod(sides)
    team_bytes = 0.0 if is_divisible else math.inf
    return Group(layout, count, MethodPlan(flops, sides, team_bytes=team_bytes))


def load_of(groups, grid):
    """Operations of every device; all matrices of a group have owners, one each."""
    load = np.zeros(grid.num_devices)
    for group, ownerships in zip(groups, assign_owners(groups, grid, "cpu")):
        assert sum(o.count for o in ownerships) == group.count
        for ownership in ownerships:
            exchange = Exchange(group.layout, ownership, grid)
            devices = grid.numbers(exchange.owners.names)
            assert sorted(devices.ravel()) == list(range(grid.num_devices))
            capacity = exchange.is_owner.sum() * ownership.per_owner
            assert ownership.count <= capacity
            if len(ownership.team) == 0:  # only a team works on fillers
                assert ownership.count == capacity
            flops = group.plan.flops * ownership.per_owner / exchange.team.size
            load[devices[exchange.is_owner.ravel()]] += flops
    return load


def mean_of(groups, grid):
    """Operations of a device if all had as many."""
    work = sum(g.count * g.plan.flops * grid.count(g.layout.batch) for g in groups)
    return work / grid.num_devices


def groups(**options):
    sides = st.sampled_from([(8, 8), (8, 32), (16, 64)])
    cuts, counts = st.sampled_from(CUTS), st.integers(1, 40)
    one = st.builds(group, sides, cuts, counts, **{k: st.just(v) for k, v in options.items()})
    return st.lists(one, min_size=1, max_size=5)


@given_by(groups(is_divisible=False))
def test_whole_matrices_go_evenly_to_devices(found):
    """No device has more than two of the largest matrices more than another.

    Without replicas it would be one: to share out evenly among these comes first.
    """
    load = load_of(found, MESH)
    assert load.mean() == pytest.approx(mean_of(found, MESH))
    if not any(g.layout.batch for g in found):
        assert load.max() - load.min() <= 2 * max(g.plan.flops for g in found)


@given_by(groups(scale=LARGE))
def test_large_matrices_are_divided_until_devices_have_equal_work(found):
    """Sides of 8 allow teams of 8 devices at least, the last of which may have fillers."""
    load, mean = load_of(found, MESH), mean_of(found, MESH)
    left_over = sum(g.plan.flops for g in found) / 8
    assert load.max() <= max(1.08 * mean, mean + left_over)


BALANCED = [(n, d) for n in MODELS for d in (4, 8, 64, 256) if sum(MODELS[n].values()) >= d]


@pytest.mark.parametrize(("name", "devices"), BALANCED)
def test_the_busiest_device_has_little_more_than_the_mean(name, devices):
    """With as many matrices as devices, or more."""
    grid = grid_of({"data": devices})
    found = [
        Group(BlockLayout(sides, "float32", (), (), ()), count, NewtonSchulz().plan(*sides))
        for sides, count in MODELS[name].items()
    ]
    assert load_of(found, grid).max() <= 1.08 * mean_of(found, grid)


def test_what_is_left_goes_to_who_has_least():
    """Three expensive matrices and thirteen cheap ones: no device gets one of each."""
    cuts = (), ("fsdp",), ()
    found = [group((8, 8), cuts, 13), group((16, 64), cuts, 3)]
    (*_, cheap), (*_, expensive) = assign_owners(found, MESH, "cpu")
    assert not set(cheap.chosen) & set(expensive.chosen)


def test_the_most_expensive_are_assigned_first():
    """Else two of the cheaper would go to two devices, and the third on top of one."""
    grid = grid_of({"fsdp": 2})
    sides, cuts = ((8, 16), (4, 32), (8, 24)), ((), ("fsdp",), ())
    found = assign_owners([group(s, cuts, 1, grid) for s in sides], grid, "cpu")
    owners = [one.chosen for (one,) in found]
    assert owners[0] == owners[1] != owners[2]


def test_twelve_matrices_are_eight_and_four_in_teams_of_two():
    grid = grid_of({"fsdp": 8})
    (found,) = assign_owners(
        [group((8, 64), ((), ("fsdp",), ()), 12, grid, LARGE)], grid, "cpu"
    )
    assert [(o.count, grid.count(o.team)) for o in found] == [(8, 1), (4, 2)]


def test_a_matrix_that_is_no_more_than_its_part_is_not_divided():
    """With as much work in other matrices that are shared already, by their batch."""
    grid = grid_of({"fsdp": 4})
    large = group((8, 64), ((), (), ("fsdp",)), 1, grid, LARGE)
    others = group((8, 64), (("fsdp",), (), ()), 16, grid, LARGE)
    (alone,), _ = assign_owners([large, others], grid, "cpu")
    assert alone.team == ()
    ((team,),) = assign_owners([large], grid, "cpu")
    assert grid.count(team.team) == 4


def test_a_team_takes_the_nearest_devices_and_cuts_of_the_long_side_first():
    grid = grid_of({"data": 2, "fsdp": 4, "tp": 2})
    cuts = ((), ("tp",), ("fsdp",))
    counts = {8: ("fsdp/1",), 4: ("fsdp/0", "fsdp/1"), 2: ("fsdp/0", "fsdp/1", "tp/0")}
    for count, team in counts.items():
        (found,) = assign_owners([group((8, 64), cuts, count, grid, LARGE)], grid, "cpu")
        assert [o.team for o in found] == [team]


def test_a_small_matrix_is_never_divided():
    grid = grid_of({"fsdp": 8})
    (found,) = assign_owners([group((64, 64), ((), (), ()), 1, grid)], grid, "cpu")
    assert [o.team for o in found] == [()]


def test_a_method_that_decomposes_a_matrix_is_not_divided():
    """Every member of a team would decompose the same Gram matrix."""
    grid = grid_of({"fsdp": 8})
    for normalize, count in (("frobenius", 8), ("spectral", 1)):
        plan = NewtonSchulz(normalize=normalize).plan(4096, 4096)
        lone = Group(BlockLayout((4096, 4096), "float32", (), (), ()), 1, plan)
        ((found,),) = assign_owners([lone], grid, "cpu")
        assert grid.count(found.team) == count


def test_large_groups_travel_in_several_stages():
    """Of 24 and 8 matrices for each device the first are a stage of their own, or several."""
    grid = grid_of({"fsdp": 8})
    found = [group((1024, 1024), ((), ("fsdp",), ()), count, grid) for count in (192, 64)]
    stages = make_stages(found, assign_owners(found, grid, "tpu"), grid, "tpu")
    parts = [part for stage in stages for part in stage]
    assert [(p.group, p.start, p.stop) for p in parts] == [
        *((0, 32 * i, 32 * i + 32) for i in range(6)),
        *((1, 32 * i, 32 * i + 32) for i in range(2)),
    ]
    assert [len(stage) for stage in stages] == [1] * 8


def test_small_matrices_of_several_layouts_share_a_stage():
    grid = grid_of({"fsdp": 8})
    found = [
        group((64, 64), ((), ("fsdp",), ()), 8, grid),
        group((64, 64), ((), (), ()), 8, grid),
    ]
    (stage,) = make_stages(found, assign_owners(found, grid, "tpu"), grid, "tpu")
    assert len(stage) == 2


def test_matrices_are_divided_where_that_saves_more_than_it_sends():
    """Work grows with the cube of a matrix's sides, and what a team sends with the square."""
    grid = grid_of({"fsdp": 8})
    for sides, count, members in (
        ((1024, 4096), 12, 1),
        ((4096, 11008), 12, 2),
        ((4096, 11008), 1, 8),
    ):
        plan = NewtonSchulz().plan(*sides, platform="tpu")
        layout = BlockLayout(sides, "float32", (), grid.factors(("fsdp",)), ())
        (found,) = assign_owners([Group(layout, count, plan)], grid, "tpu")
        assert grid.count(found[-1].team) == members


def test_of_the_largest_model_on_1024_devices_few_fillers_travel():
    """Llama 70B, cut along the inputs: bytes of fillers over all that a device receives."""
    grid = grid_of({"fsdp": 1024})
    wide, tall = (grid.factors(("fsdp",)), ()), ((), grid.factors(("fsdp",)))
    found = [
        Group(
            BlockLayout(sides, "float32", (), *cuts),
            count,
            NewtonSchulz().plan(*sides, platform="tpu"),
        )
        for sides, cuts, count in (
            ((8192, 8192), wide, 160),
            ((1024, 8192), tall, 160),
            ((8192, 28672), wide, 160),
            ((8192, 28672), tall, 80),
        )
    ]
    received, fillers = 0.0, 0.0
    for group, ownerships in zip(found, assign_owners(found, grid, "tpu")):
        for ownership in ownerships:
            exchange = Exchange(group.layout, ownership, grid)
            places = exchange.owners.size * ownership.per_owner
            matrix = 2 * 2 * math.prod(group.layout.sides)  # bfloat16, there and back
            fillers += (places - ownership.count) * matrix / grid.num_devices
            received += places * matrix / grid.num_devices
            if ownership.team:
                received += ownership.per_owner * group.plan.team_bytes
    assert fillers <= 0.1 * received
