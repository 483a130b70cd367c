"""A schedule says what is computed while something is sent, and what of the wire is hidden."""

import pytest

from benchmarks.hlo import collectives, count
from benchmarks.schedule import schedule
from muon_optax.estimates._targets import TARGETS

V5E, H100 = TARGETS["v5e"], TARGETS["h100"]
HEAD = "HloModule jit_f, is_scheduled=true, num_partitions=8\n\n"
START = "((f32[8]), f32[8], u32[]) all-to-all-start(%p), channel_id=1"


def kernel(name: str, microseconds: int) -> str:
    cycles = round(microseconds * V5E.clock / 1e6)
    config = f'backend_config={{"window_config":{{"estimated_cycles":"{cycles}"}}}}'
    return f"%{name} = f32[8] negate(%p), {config}"


def start(name: str) -> str:
    return f"%{name} = {START}"


def done(name: str, of: str) -> str:
    return f"%{name} = f32[8] all-to-all-done(%{of})"


def program(*lines: str, before: str = "") -> str:
    body = "".join(f"  {line}\n" for line in ("%p = bf16[64,64] parameter(0)", *lines))
    return f"{HEAD}{before}ENTRY %main (p: f32[8]) -> f32[8] {{\n{body}}}\n"


def found(*lines: str, wire: float = 10e-6, before: str = ""):
    return schedule(program(*lines, before=before), V5E, lambda _: wire)


def microseconds(values):
    return pytest.approx([1e-6 * value for value in values], rel=1e-3, abs=1e-12)


def test_what_is_sent_behind_enough_kernels_is_hidden():
    got = found(start("a"), kernel("k", 12), done("b", "a"))
    assert got.hidden == 1
    (one,) = got.transfers
    assert one.is_async and one.exposed == 0
    assert [got.wire, got.computing, got.waiting] == microseconds([10, 12, 0])


def test_a_device_waits_for_what_kernels_do_not_hide():
    got = found(kernel("k", 50), start("a"), kernel("l", 4), done("b", "a"), kernel("m", 50))
    assert [got.waiting, got.transfers[0].exposed] == microseconds([6, 6])
    assert [got.transfers[0].between, got.computing] == microseconds([4, 104])
    assert got.hidden == pytest.approx(0.4, rel=1e-3)


def test_a_synchronous_collective_is_exposed():
    got = found(kernel("k", 50), "%a = f32[8] all-to-all(%p), channel_id=1", kernel("l", 50))
    assert got.hidden == pytest.approx(0)
    assert not got.transfers[0].is_async


def test_two_at_once_share_the_wire_and_no_wait_counts_twice():
    """Both need 10 µs; the second starts on the wire at 10, when 5 have been computed."""
    ends = done("c", "a"), done("d", "b")
    for order in ends, ends[::-1]:
        got = found(start("a"), start("b"), kernel("k", 5), *order)
        assert [got.wire, got.waiting] == microseconds([20, 15])
        assert [t.exposed for t in got.transfers] == microseconds([5, 10])


def test_the_last_wait_is_that_of_what_still_travels():
    got = found(start("a"), start("b"), kernel("k", 12), done("c", "a"), done("d", "b"))
    assert [t.exposed for t in got.transfers] == microseconds([0, 8])
    assert got.transfers[0].hidden == 1


BODY = f"""%body (q: f32[8]) -> f32[8] {{
  %q = f32[8] parameter(0)
  {start("a")}
  {kernel("k", 4)}
  {done("b", "a")}
}}

%below (r: f32[8]) -> pred[] {{
  ROOT %r = pred[] parameter(0)
}}

"""


def test_a_loop_sends_as_often_as_it_runs():
    loop = "%w = f32[8] while(%p), condition=%below, body=%body"
    trips = 'backend_config={"known_trip_count":{"n":"3"}}'
    got = found(f"{loop}, {trips}", before=BODY)
    assert [got.wire, got.computing, got.waiting] == microseconds([30, 12, 18])
    unknown = BODY.replace("ROOT %r = pred[] parameter(0)", "ROOT %r = pred[] custom-call()")
    with pytest.raises(ValueError, match="no trip count"):
        found("%t = f32[8] tuple(%p)", loop.replace("%p", "%t"), before=unknown)


WRAPPED = """%wrapped (q: f32[1]) -> f32[8] {
  %q = f32[1] parameter(0)
  ROOT %g = f32[8] all-gather(%q), channel_id=1, replica_groups={{0,1,2,3,4,5,6,7}}
}

"""


def test_a_wrapped_collective_is_asynchronous():
    got = found(
        "%s = ((f32[1]), f32[8], u32[]) async-start(%p), calls=%wrapped",
        kernel("k", 4),
        "%u = ((f32[1]), f32[8], u32[]) async-update(%s)",
        kernel("l", 3),
        "%d = f32[8] async-done(%u)",
        before=WRAPPED,
    )
    assert [(t.moved.kind, t.is_async) for t in got.transfers] == [("all-gather", True)]
    assert [got.waiting] == microseconds([3])


def fused(name: str, end: str) -> str:
    call = f'%c.{name} = u32[] custom-call(%g.{name}), custom_call_target="{end}"'
    group = "replica_groups={{0,1,2,3,4,5,6,7}}"
    return f"""%of_{name} (q.{name}: f32[1]) -> f32[8] {{
  %q.{name} = f32[1] parameter(0)
  %g.{name} = f32[8] all-gather(%q.{name}), channel_id=7, {group}
  {call if end else ""}
  ROOT %r.{name} = f32[8] negate(%g.{name})
}}

"""


FUSED = (
    fused("first", "AsyncCollectiveStart"),
    fused("middle", ""),
    fused("last", "AsyncCollectiveDone"),
)
CYCLES = 'backend_config={"window_config":{"estimated_cycles":"6014"}}'  # 4 µs
FUSIONS = [f"%{n} = f32[8] fusion(%p), calls=%of_{n}" for n in ("first", "middle", "last")]


def test_fusions_of_a_tpu_start_help_on_and_finish_one_collective():
    lines = [FUSIONS[0], f"{FUSIONS[1]}, {CYCLES}", FUSIONS[2]]
    got = found(*lines, before="".join(FUSED))
    assert [t.is_async for t in got.transfers] == [True]
    assert [got.computing, got.waiting] == microseconds([4, 6])
    text = program(*lines, before="".join(FUSED))
    assert count(collectives(text)) == {"all-gather": 1}


SUM = """%sum (q: f32[32]) -> f32[4] {
  %q = f32[32] parameter(0)
  %all = f32[32] all-reduce(%q), channel_id=7, replica_groups={{0,1,2,3,4,5,6,7}}
  ROOT %own = f32[4] dynamic-slice(%all, %first), dynamic_slice_sizes={4}
}

"""


def test_a_collective_in_a_fusion_that_starts_none_is_synchronous():
    got = found(kernel("k", 50), "%s = f32[4] fusion(%p), calls=%sum", before=SUM)
    assert [(t.moved.kind, t.is_async) for t in got.transfers] == [("reduce-scatter", False)]
    assert [got.computing, got.waiting] == microseconds([50, 10])


DOT = """%gemm (q: bf16[64,64]) -> f32[64,64] {
  %q = bf16[64,64] parameter(0)
  ROOT %r = f32[64,64] dot(%q, %q), lhs_contracting_dims={1}, rhs_contracting_dims={1}
}

"""


def test_products_between_start_and_end_are_counted_and_a_gpu_takes_a_roofline():
    product = "%{} = f32[64,64] fusion(%p), kind=kCustom, calls=%gemm"
    between = product.format("y"), "%k = f32[8] negate(%y)"
    text = program(product.format("x"), start("a"), *between, done("b", "a"), before=DOT)
    got = schedule(text, H100, lambda _: 1e-6)
    assert [t.products for t in got.transfers] == [1]
    moved = 2 * (2 + 4) * 64 * 64 + 4 * 64 * 64 + 4 * 8
    assert got.computing == pytest.approx(3 * 2.5e-6 + moved / 3e12)
    assert got.hidden == 1


def test_a_program_without_a_schedule_is_an_error():
    with pytest.raises(ValueError, match=r"no schedule; pass compiled.as_text\(\) of a TPU"):
        schedule("HloModule jit_f\n\nENTRY %main () -> f32[] {\n}\n", V5E, lambda _: 1.0)
