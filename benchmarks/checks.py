"""Checks of committed results: formulas, references and other measurements agree."""

import json
import math
from collections.abc import Callable
from pathlib import Path

from benchmarks.polar.contenders import CONTENDERS
from benchmarks.polar.studies import planned
from benchmarks.programs.floor import flops as plan_flops
from benchmarks.programs.models import MODELS
from benchmarks.record import RESULTS, ROOT
from benchmarks.sharding.layouts import OPTAX, OURS
from benchmarks.text import short
from benchmarks.track.inference import compare_unpaired
from benchmarks.track.tables import LEVEL, finals
from muon_optax.estimates._targets import TARGETS

PAGE = ROOT / "docs" / "scaling_numbers.md"


SEEDS = 16  # of every entry of the track


class Unbelievable(ValueError):
    """A result contradicts a formula or another result."""


def check_results() -> None:
    """Check every result file; the error names the file and what is wrong with it."""
    for name, check in CHECKS.items():
        for path in sorted(RESULTS.glob(f"*/{name}.json")):
            check(path, json.loads(path.read_text()))


def _require(true: object, path: Path, message: str) -> None:
    if not true:
        raise Unbelievable(f"{path.relative_to(ROOT)}: {message}; measure again")


def check_polar(path: Path, record: dict) -> None:
    """SVD is right, 0.6·SVD wrong; repeated times overlap; no share of the peak exceeds 1."""
    for row in record["accuracy"]:
        if row["contender"] == "svd × 0.6":
            _require(row["error"] > 0.35 and row["band"][1] < 0.61, path, f"accepts {row}")
        if row["contender"] == "svd" and row["spectrum"] in ("gaussian", "momenta"):
            eps = {"float32": 2.0**-23, "bfloat16": 2.0**-7, "float16": 2.0**-10}[row["dtype"]]
            # Rounding turns the vectors of small singular values: up to 47 eps on momenta.
            _require(row["error"] < 100 * eps, path, f"SVD is off: {row}")
    for row in record["again"]:
        case = {name: row[name] for name in ("contender", "m", "n", "dtype", "spectrum")}
        (first,) = (r for r in record["sizes"] if case.items() <= r.items())
        overlap = min(first["ms"]) <= max(row["ms"]) and min(row["ms"]) <= max(first["ms"])
        _require(overlap, path, f"two measurements of {case} do not overlap")
    # Where XLA chooses the dtype of products, the peak may be that of another dtype.
    unknown = {name for name, contender in CONTENDERS.items() if not contender.products}
    for row in (r for study in planned() for r in record[study]):
        if row["share_of_peak"] and row["contender"] not in unknown:
            _require(row["share_of_peak"][0] <= 1, path, f"faster than the peak: {row}")


def check_sharding(path: Path, record: dict) -> None:
    """Bytes and operations in the HLO are those of the formula, and the updates are right."""
    for name, layout in record["layouts"].items():
        ours = layout[OURS]
        formula = ours["by_formula"]
        _require(ours["in_loops"] == 0, path, f"{name}: a collective in a loop")
        _require(ours["off"] < 1e-5, path, f"{name}: updates are off by {ours['off']}")
        _check_equal(path, name, ours["received"], formula["received"], 1e-3)
        _check_equal(path, name, ours["flops"], formula["flops_of_all_branches"], 1e-9)
    alone = {n: layout for n, layout in record["layouts"].items() if "one matrix" in n}
    _check_quoted(path, alone)


def check_scaling(path: Path, record: dict) -> None:
    """Bytes and operations of compiled large models are those of the formula."""
    compiled = {n: c[OURS] for n, c in record["cases"].items() if "by_hlo" in c[OURS]}
    _require(len(compiled) >= 4, path, f"only {len(compiled)} cases are compiled")
    for name, ours in compiled.items():
        _check_equal(path, name, ours["by_hlo"]["received"], ours["received"], 1e-3)
        _check_equal(path, name, ours["by_hlo"]["flops"], ours["flops_of_all_branches"], 1e-9)
    _check_quoted(path, {n: c for n, c in record["cases"].items() if "DDP" not in n})


def check_scaling_compiled(path: Path, record: dict) -> None:
    """What the compilers of TPUs and GPUs send is what the formula says.

    A TPU's pads a team's sums, or sums all rows for every member.
    """
    for target, cases in record["targets"].items():
        for name, programs in cases.items():
            ours, where = programs[OURS], f"{name} on {target}"
            ratio = ours["received"] / ours["by_formula"]["received"]
            limit = 1.2 if target == "v5p" and "all-gather" in ours["collectives"] else 1.001
            _require(0.999 <= ratio <= limit, path, f"{where}: {ratio} of the formula's bytes")
            quick = ours["compile_s"] <= 60
            _require(quick, path, f"{where}: compiled in {ours['compile_s']} s, not in 60")


def _check_quoted(path: Path, cases: dict) -> None:
    """docs/scaling_numbers.md says how many times more optax.contrib's Muon moves."""
    found = [case[OPTAX]["received"] / case[OURS]["received"] for case in cases.values()]
    text = f"{min(found):.0f} to {float(short(max(found))):.0f}"
    _require(text in PAGE.read_text(), path, f"docs/scaling_numbers.md must say {text!r}")


def _check_equal(path: Path, name: str, found: float, expected: float, rtol: float) -> None:
    equal = math.isclose(found, expected, rel_tol=rtol)
    _require(equal, path, f"{name}: the HLO has {found}, the formula {expected}")


def check_catalogue(path: Path, record: dict) -> None:
    """This library is right for every input."""
    wrong = [n for n, row in record["rows"].items() if row["muon_optax"]["outcome"] != "right"]
    _require(not wrong, path, f"muon_optax is wrong in rows {wrong}")


def check_soak(path: Path, record: dict) -> None:
    """The killed run has the bits of the undisturbed one and skipped what it had to skip."""
    _require(record["digests"]["equal"] == record["digests"]["compared"], path, "bits differ")
    _require(record["ends"]["killed"] == record["ends"]["alone"], path, "the ends differ")
    skipped = record["ends"]["killed"]["skipped"]
    _require(skipped == record["faults"]["skipped"], path, f"skipped {skipped}")


def check_programs(path: Path, record: dict) -> None:
    """Ours does the operations of its plans, in place, and nothing is below the floor."""
    for target, models in record["updates"].items():
        for model, found in models.items():
            row, where = found["programs"]["muon"], f"{model} on {target}"
            expected = plan_flops(MODELS[model](), TARGETS[target].kind)
            _check_equal(path, where, row["flops"], expected, 1e-9)
            in_place = row["aliased_bytes"] >= row["parameter_bytes"] + row["state_bytes"]
            _require(in_place, path, f"{where}: not all arrays are updated in place")
            if found["floor"]:
                estimate = row["by_kind"]["products"][TARGETS[target].unit]
                faster = estimate < found["floor"]["products"]
                _require(not faster, path, f"{where}: products above the peak")


def check_features(path: Path, record: dict) -> None:
    """Every seed is within its bound, and its weights are in their ball."""
    for row in record["rows"]:
        _require(max(row["measured"]) <= row["bound"], path, f"beyond its bound: {row}")
        _require(row["reached"] <= 1 + 1e-6, path, f"outside of its ball: {row}")


def check_track(path: Path, record: dict) -> None:
    """Every seed, at the settings that the search ended with."""
    _require(len(record["losses"]) == SEEDS, path, f"not {SEEDS} seeds")
    best = record["search"][-1]["tried"][0][1:]
    _require(best == [*record["settings"].values()], path, f"the search ended with {best}")


def check_again(path: Path, record: dict) -> None:
    """Other seeds differ no more than by chance, and a planted gain of 2 % is found."""
    first = json.loads((path.parents[1] / path.name).read_text())
    _require(record["settings"] == first["settings"], path, "settings differ")
    losses, before = finals(record), finals(first)
    _require(losses != before, path, "the same seeds")
    p = compare_unpaired(losses, before).p
    _require(p > 1e-3, path, f"other seeds have other losses, p = {p:.1g}")
    planted = compare_unpaired([0.98 * loss for loss in losses], before)
    _require(planted.p < LEVEL, path, f"a gain of 2 % is not seen, p = {planted.p:.1g}")


# What matches in the folder of a machine → its check.
CHECKS: dict[str, Callable[[Path, dict], None]] = {
    "polar": check_polar,
    "sharding": check_sharding,
    "scaling": check_scaling,
    "scaling_compiled": check_scaling_compiled,
    "programs": check_programs,
    "catalogue": check_catalogue,
    "features": check_features,
    "soak": check_soak,
    "track/*/*": check_track,
    "track/gpt/again/*": check_again,
}
