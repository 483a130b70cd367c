"""Collectives are read from HLO: their kinds, bytes, groups, and how often they run."""

import jax
import jax.numpy as jnp
import pytest

from benchmarks.hlo import Collective, collectives, count, flops

EIGHT = tuple(range(8))
HEAD = "HloModule jit_f, is_scheduled=true, num_partitions=8\n\n"


def program(*lines: str, before: str = "") -> str:
    body = "".join(f"  {line}\n" for line in lines)
    return f"{HEAD}{before}ENTRY %main.1 (p: f32[4]) -> f32[4] {{\n{body}}}\n"


def only(line: str) -> Collective:
    (found,) = collectives(program(line))
    return found


def test_a_group_is_read_in_every_form():
    gather = "%x = f32[16]{0} all-gather(%p), channel_id=1"
    for groups, expected in {
        "{{0,1},{2,3},{4,5},{6,7}}": (0, 1),
        "{{0,2,4,6},{1,3,5,7}}": (0, 2, 4, 6),
        "{{0,4,2,6,1,5,3,7}}": (0, 4, 2, 6, 1, 5, 3, 7),
        "{}": EIGHT,
        "[4,2]<=[8]": (0, 1),
        "[2,4]<=[4,2]T(1,0)": (0, 2, 4, 6),
        "[4,2]<=[2,2,2]T(0,2,1)": (0, 2),
        "mesh['axis_0'=1,'axis_1'=4,'axis_2'=2] {'axis_1'}": (0, 2, 4, 6),
        "mesh['a'=4,'b'=2] {'a','b'}": EIGHT,
        "mesh['a'=8] {'a':(2)4}": (0, 1, 2, 3),
        "mesh['a'=8] {'a':(1)2}": (0, 4),
        "mesh['a'=8] {'a':(2)2}": (0, 2),
        "mesh['a'=8] {'a':(1)2,'a':(4)2}": (0, 1, 4, 5),
        "mesh['a'=4,'b'=2], device_ids=([2,4]T(1,0)) {'b'}": (0, 4),
    }.items():
        line = f"{gather}, replica_groups={groups}, dimensions={{0}}"
        assert only(line) == Collective("all-gather", 64, expected), groups


def test_the_number_of_devices_is_read_in_the_first_line():
    """An instruction's text may name another."""
    line = (
        '%x = f32[16] all-gather(%p), replica_groups={}, metadata={op_name="num_partitions=2"}'
    )
    assert only(line).group == EIGHT


def test_the_group_of_a_permutation_is_its_first_pair_of_different_devices():
    for pairs, expected in {"{{0,0},{1,3},{3,1}}": (1, 3), "{{0,4},{4,2}}": (0, 4)}.items():
        line = f"%x = f32[4] collective-permute(%p), source_target_pairs={pairs}"
        assert only(line) == Collective("collective-permute", 16, expected), pairs
    nobody = "%x = f32[4] collective-permute(%p), source_target_pairs={{0,0},{1,1}}"
    assert not collectives(program(nobody))


def test_a_sum_that_returns_rounded_comes_in_whole_and_leaves_in_half_the_bytes():
    text = program("%p = f32[8] parameter(0)", "%x = bf16[8] all-reduce(%p), to_apply=%add")
    (found,) = collectives(text)
    assert found.received == 7 / 8 * (32 + 16)


SUM = """%sum (q: f32[32]) -> f32[5] {
  %q = f32[32] parameter(0)
  %padded = f32[40] pad(%q, %zero), padding=0_8
  %all = f32[40] all-reduce(%padded), channel_id=9, replica_groups={{0,4,2,6,1,5,3,7}}
  %first = s32[] constant(5)
  ROOT %own = f32[5] dynamic-slice(%all, %first), dynamic_slice_sizes={5}
}

"""


def test_a_sum_of_which_a_fusion_keeps_its_part_is_a_reduce_scatter():
    """A TPU's compiler prints no other; the part is padded."""
    fusion = "%x = f32[5] fusion(%p), kind=kCustom, calls=%sum"
    (found,) = collectives(program(fusion, before=SUM))
    assert (found.kind, found.bytes, found.received) == ("reduce-scatter", 20, 7 * 20)
    (whole,) = collectives(program(fusion, before=SUM.replace("%all, %first", "%q, %first")))
    assert (whole.kind, whole.bytes) == ("all-reduce", 160)


def test_bytes_are_of_all_arrays_of_the_result():
    for result, size in {
        "f32[2,3]{1,0}": 24,
        "bf16[2,3]{1,0:T(8,128)(2,1)}": 12,
        "f32[]": 4,
        "(f32[1,4]{1,0}, f32[1,4]{1,0}, /*index=2*/bf16[1,4]{1,0})": 40,
        "(c64[2], f64[2], pred[2], f8e4m3fn[2])": 36,
        "s4[6]{0:E(4)}": 3,
        "f32[<=5]{0}": 20,
    }.items():
        line = f"ROOT %x = {result} all-to-all(%p), replica_groups=[1,8]<=[8]"
        assert only(line).bytes == size, result


@pytest.mark.parametrize(
    ("start", "kind", "size"),
    [
        ("(f32[4]{0}, f32[32]{0}) all-gather-start(%p)", "all-gather", 128),
        ("((f32[4], bf16[4]), (f32[32], bf16[32])) all-gather-start(%p)", "all-gather", 192),
        ("f32[32]{0} all-reduce-start(%p), to_apply=%add", "all-reduce", 128),
        ("(f32[32], f32[2]) all-reduce-start(%p, %q), to_apply=%add", "all-reduce", 136),
        ("((f32[8], f32[8]), (f32[8], f32[8])) all-to-all-start(%p)", "all-to-all", 64),
        ("((f32[32]{0}), f32[4]{0}) reduce-scatter-start(%p)", "reduce-scatter", 16),
        (
            "(f32[4]{0:T(4)}, f32[4], u32[], u32[]) collective-permute-start(%p)",
            "collective-permute",
            16,
        ),
    ],
)
def test_what_is_started_and_done_counts_once(start, kind, size):
    text = program(
        f"%start = {start}, replica_groups=[1,8]<=[8]",
        f"ROOT %done = f32[32]{{0}} {kind}-done(%start)",
    )
    assert collectives(text) == [Collective(kind, size, EIGHT)]


def test_a_wrapped_asynchronous_call_counts_once():
    wrapped = """%wrapped (q: f32[8]) -> f32[8] {
  ROOT %a = f32[8]{0} all-to-all(%q), replica_groups=[1,8]<=[8], dimensions={0}
}

"""
    text = program(
        "%start = ((f32[8]), f32[8], s32[]) async-start(%p), calls=%wrapped",
        "ROOT %done = f32[8]{0} async-done(%start), calls=%wrapped",
        before=wrapped,
    )
    assert count(collectives(text)) == {"all-to-all": 1}


def test_a_device_receives_what_is_not_its_own():
    for kind, result, received in (
        ("all-to-all", 32, 24),
        ("all-gather", 32, 24),
        ("all-reduce", 32, 48),
        ("reduce-scatter", 8, 24),  # of 32
        ("collective-permute", 32, 32),
    ):
        assert Collective(kind, result, (0, 1, 2, 3)).received == received, kind
        assert Collective(kind, result, (0, 2, 4, 6), 3).received == 3 * received, kind


def test_a_group_of_one_moves_nothing():
    assert not collectives(program("%x = f32[4] all-gather(%p), replica_groups=[8,1]<=[8]"))


LOOPS = """%add (a: f32[], b: f32[]) -> f32[] {
  ROOT %s = f32[] add(%a, %b)
}

%inner (q: (s32[], f32[4,4])) -> (s32[], f32[4,4]) {
  %d = f32[4,4]{1,0} dot(%x, %x), lhs_contracting_dims={1}, rhs_contracting_dims={0}
  ROOT %r = f32[4,4]{1,0} all-reduce(%d), replica_groups={{0,1}}, to_apply=%add
}

%below (q: (s32[], f32[4,4])) -> pred[] {
  ROOT %l = pred[] compare(%i, %n), direction=LT
}

%outer (q: (s32[], f32[4,4])) -> (s32[], f32[4,4]) {
  ROOT %v = (s32[], f32[4,4]) while(%q), condition=%below, body=%innerTRIPS
}

"""
TRIPS = ', backend_config={"known_trip_count":{"n":"5"},"known_init_step":{"init":"0"}}'
OUTER = "%w = (s32[], f32[4,4]) while(%t), condition=%below, body=%outer"
X = "%x = f32[4,4]{1,0} parameter(0)"


def test_a_loop_s_body_counts_as_often_as_it_runs():
    text = program(X, OUTER + TRIPS.replace("5", "3"), before=LOOPS.replace("TRIPS", TRIPS))
    assert collectives(text) == [Collective("all-reduce", 64, (0, 1), 15, in_loop=True)]
    assert flops(text) == 15 * 2 * 4**3


def test_what_a_loop_s_body_calls_is_in_the_loop():
    call = "%outer (q: f32[4]) -> f32[4] {\n  %c = f32[4] call(%q), to_apply=%inner\n}\n\n"
    inner = LOOPS[: LOOPS.index("%outer")]
    (found,) = collectives(program(X, OUTER + TRIPS, before=inner + call))
    assert found.in_loop and found.times == 5


def test_a_loop_of_unknown_length_is_an_error_only_around_what_is_counted():
    text = program(X, OUTER + TRIPS, before=LOOPS.replace("TRIPS", ""))
    with pytest.raises(ValueError, match="no trip count of the loop around 'ROOT %r"):
        collectives(text)
    with pytest.raises(ValueError, match="no trip count of the loop around '%d"):
        flops(text)
    assert collectives(text.replace("all-reduce(", "negate(")) == []


@pytest.mark.parametrize(
    "branches",
    [
        "branch_computations={%inner, %add}",
        "true_computation=%inner, false_computation=%add",
        "true_computation=%add, false_computation=%inner",
    ],
)
def test_a_branch_counts_as_taken_and_as_no_loop(branches):
    text = program(X, f"%c = f32[4,4] conditional(%b, %x, %x), {branches}", before=LOOPS)
    assert collectives(text) == [Collective("all-reduce", 64, (0, 1))]


def test_products_of_a_compiled_loop_are_counted_as_often_as_they_run():
    def power(x):
        return jax.lax.fori_loop(0, 7, lambda _, y: jnp.einsum("bij,bjk->bik", y, x), x)

    text = jax.jit(power).lower(jnp.zeros((3, 8, 8))).compile().as_text()
    assert flops(text) == 7 * 3 * 2 * 8**3
    assert collectives(text) == []


def test_what_is_no_hlo_is_refused():
    lowered = jax.jit(jnp.sin).lower(1.0)
    with pytest.raises(ValueError, match=r"pass compiled\.as_text"):
        collectives(lowered.as_text())


def counted(start=0, end=3, step=1, direction="LT", adds_to=1):
    """A loop as a TPU's compiler leaves it, without a trip count."""
    condition = f"""%more (q: (f32[4], s32[])) -> pred[] {{
  %q = (f32[4], s32[]) parameter(0)
  %end = s32[] constant({end})
  %at = s32[] get-tuple-element(%q), index=1
  ROOT %less = pred[] compare(%at, %end), direction={direction}
}}

%body (r: (f32[4], s32[])) -> (f32[4], s32[]) {{
  %r = (f32[4], s32[]) parameter(0)
  %i = s32[] get-tuple-element(%r), index={adds_to}
  %copied = s32[] copy(%i)
  %by = s32[] constant({step})
  %next = s32[] add(%copied, %by)
  %x = f32[4] get-tuple-element(%r), index=0
  %y = f32[4] all-reduce(%x), replica_groups={{{{0,1}}}}, to_apply=%add
  ROOT %both = (f32[4], s32[]) tuple(%y, %next)
}}

"""
    return program(
        "%p = f32[4] parameter(0)",
        f"%first = s32[] constant({start})",
        "%begin = s32[] copy(%first)",
        "%all = (f32[4], s32[]) tuple(%p, %begin)",
        "%loop = (f32[4], s32[]) while(%all), condition=%more, body=%body",
        before=condition,
    )


def test_the_trips_of_a_loop_that_counts_by_one_are_read_from_it():
    assert count(collectives(counted())) == {"all-reduce": 3}
    assert count(collectives(counted(start=2, end=7))) == {"all-reduce": 5}


@pytest.mark.parametrize(
    "other", [{"step": 2}, {"direction": "NE"}, {"end": "-inf"}, {"adds_to": 0}]
)
def test_the_trips_of_any_other_loop_are_unknown(other):
    with pytest.raises(ValueError, match="no trip count"):
        collectives(counted(**other))
