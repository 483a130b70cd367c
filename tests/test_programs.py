"""Compiled programs are read right: kernels, their kinds and bytes, copies, estimates."""

import math

import jax
import pytest

from benchmarks import programs
from benchmarks.compiled import compiled
from benchmarks.programs import figures, measure, tables
from benchmarks.programs.floor import floor
from benchmarks.programs.flow import Arguments
from benchmarks.programs.kernels import KINDS, by_kind, copies
from benchmarks.programs.models import MODELS, Model, _apart, _stacked
from benchmarks.programs.optimizers import OPTAX, OURS
from muon_optax import NewtonSchulz
from muon_optax.estimates._instructions import Program
from muon_optax.estimates._kernels import kernels
from muon_optax.estimates._products import product
from muon_optax.estimates._targets import LAUNCH, NEEDED, TARGETS

BOTH = (_apart, _stacked)
V5E, H100 = TARGETS["v5e"], TARGETS["h100"]
CYCLES = ', backend_config={"window_config":{"estimated_cycles":"N"}}'

# params, state and gradient of one 8 × 8 matrix, and a counter in the state.
UPDATE = """HloModule jit_step

%inner (a: f32[8,8], b: f32[8,8]) -> (f32[8,8], bf16[8,8]) {
  %a = f32[8,8]{1,0} parameter(0)
  %b = f32[8,8]{1,0} parameter(1)
  %mu = f32[8,8]{1,0} add(%a, %b)
  %rounded = bf16[8,8]{1,0} convert(%mu)
  ROOT %both = (f32[8,8]{1,0}, bf16[8,8]{1,0}) tuple(%mu, %rounded)
}

%gemm (c: bf16[8,8], d: bf16[8,8]) -> f32[8,8] {
  %c = bf16[8,8]{1,0} parameter(0)
  %d = bf16[8,8]{1,0} parameter(1)
  ROOT %y = f32[8,8]{1,0} dot(%c, %d), lhs_contracting_dims={1}, rhs_contracting_dims={1}
}

%turn (e: f32[8,8]) -> f32[8,8] {
  %e = f32[8,8]{1,0} parameter(0)
  ROOT %t = f32[8,8]{1,0} transpose(%e), dimensions={1,0}
}

ENTRY %main (p.1: f32[8,8], m.1: f32[8,8]) -> (f32[8,8], f32[8,8], s32[]) {
  %p.1 = f32[8,8]{1,0} parameter(0)
  %m.1 = f32[8,8]{1,0} parameter(1)
  %n.1 = s32[] parameter(2)
  %g.1 = f32[8,8]{1,0} parameter(3)
  %one = s32[] constant(1)
  %count = s32[] add(%n.1, %one)
  %turned = f32[8,8]{1,0} fusion(%g.1), kind=kInput, calls=%turn
  %copied = f32[8,8]{1,0} copy(%turned)
  %blend = (f32[8,8]{1,0}, bf16[8,8]{1,0}) fusion(%copied, %m.1), kind=kLoop, calls=%inner
  %mu.1 = f32[8,8]{1,0} get-tuple-element(%blend), index=0
  %x = bf16[8,8]{1,0} get-tuple-element(%blend), index=1
  %gram = f32[8,8]{1,0} fusion(%x, %x), kind=kCustom, calls=%gemm
  %negated = f32[8,8]{1,0} negate(%gram)
  %new = f32[8,8]{1,0} add(%p.1, %negated)
  %renamed = f32[8,8]{1,0} bitcast(%new)
  ROOT %all = (f32[8,8]{1,0}, f32[8,8]{1,0}, s32[]) tuple(%renamed, %mu.1, %count)
}
"""


def found_in(text, target=H100):
    return {kernel.line.name: kernel for kernel in kernels(Program(text), target)}


def kinds(text):
    program = Program(text)
    arguments = Arguments(params=1, state=2, grads=1)
    found = by_kind(kernels(program, H100), program, arguments)
    return {kernel.line.name: kind for kind, of_it in found.items() for kernel in of_it}


def test_a_kernel_is_a_product_a_pass_or_glue():
    assert kinds(UPDATE) == {
        "count": "glue",
        "turned": "glue",  # reads a gradient and only moves it
        "copied": "glue",
        "blend": "pass in",
        "gram": "products",
        "negated": "glue",
        "new": "pass out",
    }


def test_what_writes_the_state_is_a_pass_in_though_it_reads_no_gradient():
    text = UPDATE.replace("fusion(%copied, %m.1)", "fusion(%p.1, %m.1)")
    assert kinds(text)["blend"] == "pass in"


def test_a_roofline_takes_the_larger_of_operations_and_bytes_and_a_launch():
    found = found_in(UPDATE)
    assert found["gram"].bytes == (2 + 2 + 4) * 64
    assert found["gram"].flops == 2 * 8**3
    assert found["blend"].bytes == (4 + 4 + 4 + 2) * 64
    assert found["blend"].estimate == 14 * 64 / H100.bandwidth + LAUNCH
    large = UPDATE.replace("[8,8]", "[8192,8192]")
    assert found_in(large)["gram"].estimate == 2 * 8192**3 / 800e12 + LAUNCH
    in_float32 = large.replace("bf16", "f32")
    assert found_in(in_float32)["gram"].estimate == 2 * 8192**3 / 400e12 + LAUNCH


@pytest.mark.parametrize(
    ("text", "smallest", "expected"),
    [
        (UPDATE, 64, {"copy": 1, "transpose": 1, "pad": 0}),  # the latter in a fusion
        (UPDATE, 65, {"copy": 0, "transpose": 0, "pad": 0}),
        # A product reads its operands as it likes, and moves nothing by that.
        (
            UPDATE.replace("ROOT %y", "%z = f32[8,8]{1,0} transpose(%c)\n  ROOT %y"),
            64,
            {"copy": 1, "transpose": 1, "pad": 0},
        ),
    ],
)
def test_copies_are_passes_over_something_as_large_as_a_matrix(text, smallest, expected):
    program = Program(text)
    assert copies(kernels(program, H100), program, smallest) == expected


TRIPS = ', backend_config={"known_trip_count":{"n":"5"}}'
TPU = f"""HloModule jit_step

%body (q: (s32[], f32[64,64])) -> (s32[], f32[64,64]) {{
  %w = f32[64,64]{{1,0:T(8,128)S(1)}} fusion(%k), kind=kLoop, calls=%f{CYCLES.replace("N", "7")}
}}

%below (q: (s32[], f32[64,64])) -> pred[] {{
  ROOT %l = pred[] compare(%i, %n), direction=LT{CYCLES.replace("N", "1000")}
}}

ENTRY %main (k: f32[64,64]) -> f32[64,64] {{
  %k = f32[64,64]{{1,0:T(8,128)}} parameter(0)
  %start = (f32[64,64]{{1,0}}, f32[64,64]{{1,0:S(1)}}, u32[]{{:S(2)}}) copy-start(%k)
  %near = f32[64,64]{{1,0:T(8,128)S(1)}} copy-done(%start)
  %loop = (s32[], f32[64,64]) while(%t), condition=%below, body=%body{TRIPS}
  ROOT %r = f32[64,64]{{1,0:T(8,128)}} negate(%near){CYCLES.replace("N", "100")}
}}
"""


def tpu(text):
    program = Program(text)
    found = kernels(program, V5E)
    return program, found, measure._sums(found, V5E)


def test_cycles_are_summed_with_the_trips_of_loops():
    _, found, sums = tpu(TPU.replace("calls=%f", "calls=%below"))
    assert sums["estimated_cycles"] == 5 * 7 + 100
    assert sums["kernels"] == 6
    assert {k.times for k in found if k.line.name == "w"} == {5}


def test_an_unknown_trip_count_leaves_no_estimate():
    _, _, sums = tpu(TPU.replace("known_trip_count", "other"))
    assert set(sums.values()) == {None}


def test_a_move_between_memories_is_no_copy_and_its_bytes_count_once():
    program, found, _ = tpu(TPU)
    size = 4 * 64 * 64
    assert copies(found, program, 1) == {"copy": 0, "transpose": 0, "pad": 0}
    assert {k.line.name: k.bytes for k in found} == {"start": size, "w": size, "r": size}


SLICES = """HloModule jit_f

%part (a: f32[4,8,8], b: f32[8,8]) -> f32[4,8,8] {
  %a = f32[4,8,8]{2,1,0} parameter(0)
  %b = f32[8,8]{1,0} parameter(1)
  %s = f32[1,8,8]{2,1,0} bitcast(%b)
  %zero = s32[] constant(0)
  ROOT %u = f32[4,8,8]{2,1,0} dynamic-update-slice(%a, %s, %zero, %zero, %zero)
}

%take (c: f32[4,8,8]) -> f32[8,8] {
  %c = f32[4,8,8]{2,1,0} parameter(0)
  %one = f32[1,8,8]{2,1,0} slice(%c), slice={[0:1], [0:8], [0:8]}
  ROOT %flat = f32[8,8]{1,0} bitcast(%one)
}

ENTRY %main (p: f32[4,8,8]) -> f32[4,8,8] {
  %p = f32[4,8,8]{2,1,0} parameter(0)
  %first = f32[8,8]{1,0} fusion(%p), kind=kLoop, calls=%take
  ROOT %put = f32[4,8,8]{2,1,0} fusion(%p, %first), kind=kLoop, calls=%part
}
"""


def test_of_what_is_sliced_or_updated_in_place_only_the_part_moves():
    found = {k.line.name: k.bytes for k in kernels(Program(SLICES), H100)}
    assert found == {"first": 2 * 256, "put": 2 * 256}


@pytest.mark.parametrize(
    ("sides", "rest", "flops"),
    [
        # A plain product, one of the transposed, and four at once in each of XLA's forms.
        (("8,16", "16,32", "8,32"), "dim_labels=bf_io->bf", 2 * 8 * 16 * 32),
        (("8,16", "32,16", "8,32"), "dim_labels=bf_oi->bf", 2 * 8 * 16 * 32),
        (
            ("4,8,16", "4,16,32", "4,8,32"),
            "window={size=4 stride=3 lhs_dilate=4}, dim_labels=0bf_0io->0bf",
            4 * 2 * 8 * 16 * 32,
        ),
        (
            ("6,8,16", "2,16,32", "2,8,32"),
            "window={size=2 pad=-8_0 lhs_dilate=2}, dim_labels=0bf_0io->0bf",
            2 * 2 * 8 * 16 * 32,
        ),
        # A true convolution, whose window meets padding at both ends.
        (
            ("4,8,16", "3,16,32", "4,8,32"),
            "window={size=3 pad=1_1}, dim_labels=0bf_0io->0bf",
            10 * 2 * 8 * 16 * 32,
        ),
    ],
)
def test_a_convolution_of_a_tpu_is_as_many_operations_as_its_products(sides, rest, flops):
    left, right, out = sides
    text = f"""ENTRY %main (a: bf16[{left}]) -> f32[{out}] {{
  %a = bf16[{left}] parameter(0)
  %b = bf16[{right}] parameter(1)
  ROOT %c = f32[{out}] convolution(%a, %b), {rest}, operand_precision={{highest,highest}}
}}"""
    program = Program(text)
    found = product(program.by_name["c"], program)
    assert found.flops == flops
    assert str(found) == "bf16 × bf16 → f32"


def test_a_float32_product_says_its_precision():
    text = UPDATE.replace("bf16", "f32")
    assert str(product(Program(text).by_name["y"], Program(text))).endswith("default precision")
    high = text.replace("rhs_contr", "operand_precision={highest,highest}, rhs_contr")
    assert str(product(Program(high).by_name["y"], Program(high))).endswith("highest precision")


def test_a_missing_compiler_is_named_with_what_installs_it(monkeypatch):
    monkeypatch.setitem(NEEDED, "tpu", ("no-such-compiler",))
    with pytest.raises(
        SystemExit,
        match=r"no compiler for v5e: no-such-compiler not .*pip install 'jax\[tpu\]'",
    ):
        programs.main(smoke=True, targets=["v5e"])
    with pytest.raises(SystemExit, match="--target v7: use some of v5e, v5p"):
        programs.main(targets=["v7"])


def test_the_floor_is_products_at_the_peak_and_the_fewest_passes():
    model = _apart(1, {"up": (512, 2048)})
    flops = NewtonSchulz().plan(512, 2048, platform="tpu").flops
    assert floor(model, H100) == {
        "products": flops / 800e12,
        "passes": 22 * 512 * 2048 / 3e12,
    }
    in_cycles = floor(model, V5E)
    assert in_cycles["products"] == pytest.approx(flops / 131072)
    seconds = 14 * 512 * 2048 / 819e9
    assert in_cycles["passes"] == pytest.approx(seconds * 1.5e9, rel=0.01)
    assert floor(model, TARGETS["v6e"]) is None


def test_an_argument_that_is_not_used_keeps_its_number():
    shape = jax.ShapeDtypeStruct((2,), "float32")
    program, _ = compiled(lambda a, b: b + 1, shape, shape)
    assert "parameter(1)" in program.as_text()


@pytest.mark.parametrize("make", BOTH)
def test_an_update_is_compiled_with_its_arrays_donated_and_its_products_counted(make):
    model = make(2, {"q": (16, 48), "o": (16, 16)})
    row, _ = measure.update("muon", model, TARGETS["cpu"])
    assert row["aliased_bytes"] == row["parameter_bytes"] + row["state_bytes"]
    plans = (NewtonSchulz().plan(m, n).flops for m, n in model.sides)
    assert row["flops"] == row["by_kind"]["products"]["flops"] == sum(plans)
    assert {*row["products"]} == {"f32 × f32 → f32, highest precision"}
    table = tables.updates({"cpu": {"tiny": {"floor": None, "programs": {"muon": row}}}})
    assert len(table.splitlines()) == 3


def test_stacked_leaves_have_the_operations_of_separate_ones_with_optax_too():
    sides = {"q": (16, 48), "o": (16, 16)}
    rows = [measure.update(OPTAX, make(2, sides), TARGETS["cpu"])[0] for make in BOTH]
    assert rows[0]["flops"] == rows[1]["flops"] > 0


def test_bars_are_over_the_floor():
    kinds = {kind: {"estimated_s": 2.0} for kind in KINDS}
    least = {"products": 3.0, "passes": 1.0}
    found = {"floor": least, "programs": {name: {"by_kind": kinds} for name in (OURS, OPTAX)}}
    bars = figures.bars({"updates": {"h100": {"tiny": found}}}, "h100")
    assert bars == {(OURS, "tiny"): [0.5] * len(KINDS), (OPTAX, "tiny"): [0.5] * len(KINDS)}


def test_a_model_has_the_matrices_that_it_says():
    for name, make in MODELS.items():
        model: Model = make()
        norms = {"768x2": 2, "2048x2": 2, "256x2": 2, "llama7b-layer": 1}.get(name, 12)
        width = model.sides[0][0]
        assert model.size == sum(math.prod(s) for s in model.sides) + norms * width, name
