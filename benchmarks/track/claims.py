"""The paper's three claims and the controls, from the losses of the track."""

import statistics
from collections.abc import Callable
from functools import partial

from benchmarks.text import markdown
from benchmarks.track import advice, inference, rates
from benchmarks.track.entry import find
from benchmarks.track.tables import (
    LEVEL,
    MARGIN,
    REFERENCE,
    compare_all,
    finals,
    interval,
    load,
    probability,
    table,
)

FEW = ("jordan_3", "muon", "fast", "taylor_2", "taylor_4", "taylor_2_longer", "taylor_4_longer")
FEW += ("polar_express",)
BY_STEPS = ("jordan_1", "jordan_2", "jordan_3", "jordan_4", "muon")
BY_DEGREE = ("taylor_1", "taylor_2", "taylor_3", "taylor_4")
REPEATED = (REFERENCE, "svd")  # with other seeds
SHOWN = ("gpt", "images", "finetuning", "lora")
DRAWN = ("gpt", "images")
WIDTHS = {16: "gpt_16", 32: "gpt_32", 64: "gpt"}


def equivalence_table(machine: str) -> str:
    """Claim 1: a few steps of a low degree match the SVD, within a margin."""
    records = load(machine, "gpt", ("svd", *FEW))
    exact = finals(records["svd"])
    margin, rows = MARGIN * statistics.mean(exact), []
    losses = {name: finals(records[name]) for name in FEW}
    found = {name: inference.equivalence(x, exact, margin) for name, x in losses.items()}
    for name, p in inference.correct(found).items():
        gap = inference.compare(losses[name], exact).of
        verdict = "matches" if p < LEVEL else "not shown"
        rows.append([find(name).title, interval(gap, signed=True), probability(p), verdict])
    header = ["", "loss minus the SVD's", f"p (gap ≥ {margin:.3f})", "verdict"]
    return markdown(header, rows)


def trend_table(machine: str) -> str:
    """Claim 2: more steps, or a higher degree, bring the loss nearer to the SVD's."""
    records = load(machine, "gpt", ("svd", *BY_STEPS, *BY_DEGREE))
    exact, rows = finals(records["svd"]), []
    for label, names in (
        ("Jordan, q = 1 to 5", BY_STEPS),
        ("Taylor, q = 3, κ = 1 to 4", BY_DEGREE),
    ):
        gaps = [[abs(x - y) for x, y in zip(finals(records[name]), exact)] for name in names]
        cells = ", ".join(f"{statistics.mean(gap):.3f}" for gap in gaps)
        rows.append([label, cells, probability(inference.trend(gaps))])
    return markdown(
        ["", "mean distance to the SVD's loss, in this order", "p (no trend)"], rows
    )


def rank_table(machine: str) -> str:
    """Claim 3: Muon beats SGD with momentum, and by more where the rank can be higher."""
    rows, ratios = [], []
    for width, task in WIDTHS.items():
        records = load(machine, task, ("sgd", REFERENCE))
        sgd, muon = finals(records["sgd"]), finals(records[REFERENCE])
        found = inference.compare(sgd, muon)
        ratios.append([x / y for x, y in zip(sgd, muon)])
        cells = [interval(found.of, signed=True), interval(inference.estimate(ratios[-1]))]
        rows.append([f"{width}", *cells, probability(found.p)])
    header = ["width", "SGD's loss minus Muon's", "SGD's loss / Muon's", "p (no difference)"]
    rising = probability(inference.trend(ratios[::-1]))
    test = "Page's test of the hypothesis that this ratio does not rise with the width"
    return f"{markdown(header, rows)}\n\n{test}: p {rising}."


def control_table(machine: str) -> str:
    """Comparisons with a known outcome: no difference, 2 %, and the luck of a search."""
    records = load(machine, "gpt", ("muon_again", *REPEATED))
    repeated = load(machine, "gpt", REPEATED, again=True)
    first, again, exact, exact_again = (
        finals(of[name]) for name in REPEATED for of in (records, repeated)
    )
    unpaired = inference.compare_unpaired
    found = {
        "Muon, same settings, other seeds": unpaired(again, first),
        "Muon, other seeds, losses × 0.98": unpaired([0.98 * x for x in again], first),
        "SVD, same settings, other seeds": unpaired(exact_again, exact),
        "Muon, second search, same seeds": inference.compare(
            finals(records["muon_again"]), first
        ),
    }
    rows = [
        [label, interval(d.of, signed=True), probability(d.p), f"{d.effect:+.1f}"]
        for label, d in found.items()
    ]
    return markdown(["", "difference", "p, uncorrected", "d"], rows)


def repeat_table(machine: str) -> str:
    """The difference of every optimizer, and the one with other seeds."""
    records = load(machine, "gpt", again=True)
    first, again = compare_all(load(machine, "gpt")), compare_all(records)
    rows = []
    for name, found in sorted(again.items(), key=lambda item: item[1].gap.mean):
        cells = [interval(gap, signed=True) for gap in (first[name].gap, found.gap)]
        rows.append([find(name).title, *cells, probability(found.differs), found.verdict])
    header = ["", "minus Muon's, first seeds", "minus Muon's, other seeds"]
    return markdown([*header, "p (no difference)", "verdict"], rows)


TABLES: dict[str, Callable[[str], str]] = {
    **{f"track_{task}": partial(table, task=task) for task in SHOWN},
    "track_again": repeat_table,
    "track_equivalence": equivalence_table,
    "track_trend": trend_table,
    "track_rank": rank_table,
    "track_controls": control_table,
    "track_rates": rates.table,
    "track_advice": advice.table,
}
