"""Tables of docs/theory_measured.md and docs/bounds_measured.md."""

import statistics

import numpy as np

from benchmarks.convergence import leaves, spectra
from benchmarks.convergence.figures import WORDS
from benchmarks.convergence.times import RECORDING, TIMED
from benchmarks.record import load
from benchmarks.text import markdown, mean, written
from benchmarks.track import inference
from muon_optax import theory
from muon_optax.coefficients import FAMILIES, Coefficients, minimax

FACTOR = 1.25
KNOWN = {
    "rank 64": {"rank": 64},
    "rank 768": {"rank": 768},
    "rank 4096": {"rank": 4096},
    "δ₀ = 1 - 0.1²": {"delta0": 1 - 1e-2},
    "δ₀ = 1 - 0.001²": {"delta0": 1 - 1e-6},
    "1/i": {"spectrum": 1.0 / np.arange(1, 769)},
}


def steps_table(machine: str) -> str:
    """The fewest steps and products for a factor of 1.25, all families side by side."""
    del machine  # computed, not measured
    plain = {f"minimax, κ = {k}": minimax(12, 1e-3, kappa=k) for k in (1, 2, 4)}

    def cell(family: Coefficients, known: dict) -> str:
        q = theory.steps_for(FACTOR, family, **known)
        return "–" if q is None else f"{q} ({theory.products(family.schedule(q))})"

    rows = [
        [name.replace("taylor", "Taylor, κ = "), *(cell(f, known) for known in KNOWN.values())]
        for name, f in (FAMILIES | plain).items()
    ]
    return markdown(["family", *KNOWN], rows)


def training_table(machine: str) -> str:
    """Every method of the small GPT: best rate, final loss, cost of a step."""
    record, times = load(machine, "training"), load(machine, "times")["small"]
    svd = times["SVD"][1]

    def row(name: str, study: dict) -> list[str]:
        seeds, matched = study["seeds"], record["matched"].get(name)
        no_decay = record["without_decay"].get(name)
        return [
            name,
            f"{seeds[0]['learning_rate']:g}",
            mean([run["loss"][-1] for run in seeds], 3),
            mean([run["loss"][-1] for run in no_decay["seeds"]], 3) if no_decay else "",
            mean([run["loss"][-1] for run in matched], 3) if matched else "",
            f"{times[name][1] / svd:.2f}" if name in times else "",
        ]

    rows = [row(name, study) for name, study in record["studies"].items()]
    header = [
        "small byte GPT, 3 seeds",
        "best rate",
        "final loss",
        "tuned without weight decay",
    ]
    header += ["at the SVD's RMS and rate", "time per step over SVD's"]
    return written(record, header, rows)


def causes_table(machine: str) -> str:
    """The byte GPT, one property of the update changed at a time."""
    record, times = load(machine, "causes"), load(machine, "times")["byte GPT"]
    svd = times["SVD"][1]
    rows = [
        [
            WORDS.get(name, name),
            f"{study['seeds'][0]['learning_rate']:g}",
            mean([run["loss"][-1] for run in study["seeds"]], 3),
            f"{times[name][1] / svd:.2f}" if name in times else "",
        ]
        for name, study in record["studies"].items()
    ]
    rows += [
        [
            WORDS.get(name, name),
            f"{runs[0]['learning_rate']:.3g}",
            mean([r["loss"][-1] for r in runs], 3),
            "",
        ]
        for name, runs in record["between"].items()
    ]
    header = ["byte GPT, 3 seeds", "rate", "final loss", "time per step over SVD's"]
    return written(record, header, rows)


def bounds_table(machine: str) -> str:
    """Both problems at the longest horizon: measured, and every bound."""
    record = load(machine, "bounds")
    horizon = max(row["T"] for row in record["rows"])

    def number(value: float | None) -> str:
        return "" if value is None else f"{value:.3g}"

    rows = [
        [
            f"{row['problem']}, {row['method']}",
            number(statistics.mean(row["measured"])),
            number(max(row["measured"])),
            number(row.get("muon_bound", row.get("sgdm_bound"))),
            number(row.get("certified_bound")),
            number(row.get("paper_bound")),
        ]
        for row in record["rows"]
        if row["T"] == horizon
    ]
    header = [f"T = {horizon}, {record['seeds']} seeds", "mean gradient", "worst seed"]
    header += ["bound, measured a and s", "bound, certified", "paper's bound, measured ε"]
    return written(record, header, rows)


def features_table(machine: str) -> str:
    """The bound over the worst seed by horizon, and the largest norm of W over its bound."""
    record, found = load(machine, "features"), {}
    for row in record["rows"]:
        key = f"{row['problem']}, {row['method']}, {row['case']}"
        found.setdefault(key, []).append(row)
    rows = [
        [
            key,
            *(f"{row['bound'] / max(row['measured']):.2g}" for row in of_key),
            f"{max(row['reached'] for row in of_key):.2f}",
        ]
        for key, of_key in found.items()
    ]
    horizons = dict.fromkeys(row["T"] for row in record["rows"])
    header = [f"bound / measured, worst of {record['seeds']} seeds"]
    header += [*(f"T = {steps}" for steps in horizons), "largest ‖W‖/ρ"]
    return written(record, header, rows)


def spectra_table(machine: str) -> str:
    """By kind and layer: exponents of two quantiles, and the steps that the widest needs."""
    record = load(machine, "spectra")
    last, widest = max(record["depths"]), max(row["width"] for row in record["rows"])
    cells: dict[str, dict[int, str]] = {}
    for row in record["rows"]:
        if (row["step"], row["width"]) == (last, widest):
            layer, kind = spectra.split(row["leaf"])
            low, middle = (
                spectra.exponent(record["rows"], row["leaf"], last, quantile)
                for quantile in (0, 1)
            )
            text = f"{low:+.2f}, {middle:+.2f}, {row['steps']}"
            cells.setdefault(kind, {})[layer] = text
    layers = sorted(next(iter(cells.values())))
    rows = [[kind, *(of_kind[layer] for layer in layers)] for kind, of_kind in cells.items()]
    return written(record, [f"step {last}", *(f"layer {layer}" for layer in layers)], rows)


def leaves_table(machine: str) -> str:
    """Steps by leaf next to the same steps everywhere: cost, distance, loss; and the saving."""
    record = load(machine, "leaves")
    exact = record["rows"][leaves.EXACT]["loss"]

    def row(name: str, of: dict) -> list[str]:
        cost = (
            [f"{of['products']:.3g}", f"{of['flops'] / 1e6:.3g}"] if of["flops"] else ["", ""]
        )
        found = inference.compare(of["loss"], exact)
        gap = f"{found.of.mean:+.3f} ± {found.of.half:.3f}" if name != leaves.EXACT else ""
        distance = [f"{of['cosine']:.3f}", f"{of['factor']:.2f}"]
        return [name, *cost, *distance, f"{statistics.mean(of['loss']):.3f}", gap]

    rows = sorted(record["rows"].items(), key=lambda item: -item[1]["cosine"])
    header = ["method", "products per matrix", "MFLOP per step", "cosine", "worst s/a"]
    header += ["test loss", "minus the SVD's"]
    low, high = (f"{100 * f(_saved_by_leaf(record['rows'])):.0f}" for f in (min, max))
    saving = (
        f"Choosing the steps by leaf takes {low} to {high} % fewer products than running the "
        "largest chosen number of steps on every leaf."
    )
    return f"{written(record, header, [row(*item) for item in rows])}\n\n{saving}"


def _saved_by_leaf(rows: dict[str, dict]) -> list[float]:
    """The share of products that each choice by leaf saves on its most steps everywhere."""
    saved = []
    for family, cosines in leaves.BY_LEAF.items():
        for cosine in cosines:
            of = rows[f"{family} by leaf, {cosine}"]
            most = max(int(name.partition(":")[2]) for name in of["methods"].values())
            saved.append(1 - of["products"] / rows[f"{family}:{most}"]["products"])
    return saved


def distance_table(machine: str) -> str:
    """How far the quadratic's end is from that of the SVD, by q."""
    record = load(machine, "bounds")
    distance = record["distance_to_svd"]
    return markdown(
        ["κ = 2", *distance], [["distance", *(f"{d:.1e}" for d in distance.values())]]
    )


def rank_table(machine: str) -> str:
    """The exponent of the mean gradient in the rank."""
    record = load(machine, "rank")
    cells = {(s["method"], s["tuned"], s["decay"]): s["slope"] for s in record["slopes"]}
    columns = [(tuned, decay) for tuned in (False, True) for decay in (0, 1, 2)]
    methods = dict.fromkeys(method for method, _, _ in cells)
    slopes = {m: [cells.get((m, *column)) for column in columns] for m in methods}
    rows = [[m, *("" if x is None else f"{x:.2f}" for x in row)] for m, row in slopes.items()]
    names = [f"{'tuned' if tuned else 'fixed'}, i^-{decay}" for tuned, decay in columns]
    return written(record, ["exponent of r", *names], rows)


def warm_start_table(machine: str) -> str:
    """By run and blend, a number for every damping: valid starts, and operations saved."""
    record, found = load(machine, "warm_start"), {}
    for row in record["rows"]:
        key = tuple(row[name] for name in ("width", "batch", "beta", "nesterov"))
        found.setdefault(key, []).append(row)

    def percent(values: list[float]) -> str:
        return ", ".join(str(round(100 * value)) for value in values) + " %"

    def saved(rows: list[dict], accuracy: str, kind: str) -> list[float]:
        of_all = [row["all"][f"jordan, {accuracy}"] for row in rows]
        return [1 - of[kind][-1] / of["cold"][-1] for of in of_all]

    cells = [
        [
            f"{width}, {64 * batch}, {beta}, {'Nesterov' if nesterov else 'plain'}",
            f"{rows[0]['residual'][1]:.0e}",
            percent([row["valid"] for row in rows]),
            percent(saved(rows, "residual", "warm")),
            percent(saved(rows, "factor", "warm")),
            percent(saved(rows, "factor", "control")[:1]),
        ]
        for (width, batch, beta, nesterov), rows in found.items()
    ]
    header = ["width, tokens per batch, β, blend", "median ‖1 - R‖, ε = 0", "valid starts"]
    header += ["saved, same ‖1 - R‖", "saved, same s/a", "saved without Q, same s/a"]
    return written(record, header, cells)


def recording_table(machine: str) -> str:
    """What a training step costs where a record is armed, but not due."""
    record = load(machine, "times")

    def milliseconds(spread: list[float]) -> str:
        low, middle, high = (1000 * seconds for seconds in spread)
        return f"{middle:.2f} ({low:.2f} to {high:.2f})"

    rows = []
    for model in TIMED:
        plain, recording = (record[model][name] for name in ("Jordan q=5", RECORDING))
        ratio = f"{recording[1] / plain[1]:.3f}"
        rows.append([model, milliseconds(plain), milliseconds(recording), ratio])
    header = ["model", "ms per step: median (range)", "recording, not due", "ratio of medians"]
    return written(record, header, rows)


TABLES = {
    "recording": recording_table,
    "steps": steps_table,
    "training": training_table,
    "causes": causes_table,
    "bounds": bounds_table,
    "features": features_table,
    "spectra": spectra_table,
    "leaves": leaves_table,
    "distance": distance_table,
    "rank": rank_table,
    "warm_start": warm_start_table,
}
