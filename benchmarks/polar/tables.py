"""Makes the tables of `python -m benchmarks polar` from its JSON."""

from collections.abc import Callable, Iterable

import numpy as np

from benchmarks.polar.matrices import SPECTRA
from benchmarks.polar.studies import BY_SIZE, SIZES
from benchmarks.record import load
from benchmarks.shapes import MODELS
from benchmarks.text import made_by, markdown, median
from benchmarks.timing import ratios, spread
from muon_optax import theory
from muon_optax.coefficients import JORDAN

OURS = "jordan q=5"
LABELS = {
    "jordan q=5": "Newton-Schulz",
    "jordan q=5, bfloat16 products": "bfloat16 products",
    "polar_express q=8": "near-exact",
    "svd": "SVD",
    "qdwh": "QDWH",
    "scipy polar": "`scipy.linalg.polar`",
    "optax.contrib": "`optax.contrib`",
}
SHOWN = (
    *(f"taylor{kappa} q=5" for kappa in (1, 2, 3, 4)),
    *("jordan q=5", "you q=5", "polar_express q=5", "polar_express q=8"),
    *("taylor2 q=12", "cans q=12"),
    *(f"jordan q=5, {dtype} products" for dtype in ("bfloat16", "float16")),
    *("svd", "qdwh", "optax.contrib", "svd × 0.6"),
)
LARGE = 256  # from this side on times are fitted by a power of it


def sizes_table(machine: str, dtype: str) -> str:
    """Time of Newton-Schulz by size, and how many times as long the others take."""
    record = load(machine, "polar")
    found = by_contender(r for r in record["sizes"] if r["dtype"] == dtype)
    others = [name for name in BY_SIZE if name != OURS]

    def row(shape: tuple[int, int]) -> list[str]:
        ours = found[OURS][shape]
        against = [ratio(found[name][shape], ours) for name in others]
        cells = ["{}×{}".format(*shape), milliseconds(ours), percent(ours["share_of_peak"])]
        return cells + against

    def growth(name: str) -> str:
        return f"n^{exponent(found[name]):.2f}"

    header = ["float32" if dtype == "float32" else dtype, f"{LABELS[OURS]}, ms", "of peak"]
    header += [f"{LABELS[name]} / it" for name in others]
    last = [f"time, from n = {LARGE} on", growth(OURS), "", *map(growth, others)]
    table = markdown(header, [*(row(shape) for shape in SIZES if shape in found[OURS]), last])
    return f"{table}\n\n<sub>{made_by(record)}</sub>"


def models_table(machine: str) -> str:
    """The polar factors of all matrices of a model."""
    record = load(machine, "polar")
    found = by_contender(record["models"])
    rows = []
    for model, shapes in MODELS.items():
        matrices = sum(shapes.values())
        flops = sum(c * theory.flops(JORDAN.schedule(5), *s) for s, c in shapes.items())
        cells = [model, f"{matrices}", f"{flops / 1e12:.2f}"]
        if not all(shape in found[OURS] for shape in shapes):
            rows.append([*cells, "not run", "", "", ""])
            continue
        total = {name: _total(found[name], shapes) for name in found}
        against = [
            median(ratios(total[name], total[OURS])) for name in ("optax.contrib", "svd")
        ]
        seconds = [ms / 1000 for ms in total[OURS]]
        share = [flops / s / record["peak_flops"]["float32"] for s in seconds]
        cells += [median(seconds), percent(spread(share))]
        rows.append(cells + against)
    header = ["model", "matrices", "TFLOP", "Newton-Schulz, s", "of peak"]
    header += ["`optax.contrib` / it", "SVD / it"]
    return f"{markdown(header, rows)}\n\n<sub>{made_by(record)}</sub>"


def accuracy_table(machine: str) -> str:
    """What each method makes of momenta of a training run, at which price."""
    rows = _of_momenta(machine, "float32")
    table = []
    for name in SHOWN:
        r = rows[name]
        low, high = r["band"]
        numbers = [f"{r['alignment']:.4f}", f"{r['orthogonality']:.2g}"]
        cells = [f"`{name}`", ratio(r, rows[OURS]), f"{r['error']:.2g}"]
        table.append([*cells, f"{low:.3g} to {high:.4g}", *numbers])
    header = ["momenta, 3 × (128×512)", f"time / `{OURS}`", "error", "singular values"]
    table = markdown([*header, "alignment", "orthogonality"], table)
    return f"{table}\n\n<sub>{made_by(load(machine, 'polar'))}</sub>"


def spectra_table(machine: str, dtype: str) -> str:
    """The error of every method of the library on every spectrum."""
    record = load(machine, "polar")
    square = [r for r in record["accuracy"] if r["dtype"] == dtype and r["m"] == r["n"]]
    error = {(r["contender"], r["spectrum"]): r["error"] for r in square}
    names = [name for name in SHOWN if name != "svd × 0.6"]
    rows = [[f"`{n}`", *(_error(error[n, spectrum]) for spectrum in SPECTRA)] for n in names]
    header = [f"error at 512×512, {dtype}", *SPECTRA]
    return f"{markdown(header, rows)}\n\n<sub>{made_by(record)}</sub>"


def costs_table(machine: str) -> str:
    """What a program costs to compile and to hold, and its operations counted twice."""
    record = load(machine, "polar")
    found = by_contender(r for r in record["sizes"] if r["dtype"] == "float32")
    rows = []
    for name in BY_SIZE:
        r = found[name][768, 3072]
        flops = "–" if r["flops"] is None else f"{r['flops'] / 1e9:.1f}"
        cells = [
            LABELS[name],
            f"{r['trace_s']:.2f} + {r['compile_s']:.2f}",
            f"{r['hlo_lines']}",
        ]
        xla = f"{(r['xla_flops'] or 0) / 1e9:.1f}"
        rows.append([*cells, f"{r['temp_over_input']:.2f}", flops, xla])
    header = ["768×3072, float32", "trace + compile, s", "HLO lines", "temporary memory"]
    table = markdown([*header, "GFLOP by formula", "as XLA counts"], rows)
    return f"{table}\n\n<sub>{made_by(record)}</sub>"


def again_table(machine: str) -> str:
    """The same rows at the beginning and at the end of the run."""
    record = load(machine, "polar")
    first, again = (by_contender(record[study]) for study in ("sizes", "again"))
    first = by_contender(r for r in record["sizes"] if r["dtype"] == "float32")
    rows = [
        [LABELS[name], milliseconds(first[name][512, 512]), milliseconds(again[name][512, 512])]
        for name in BY_SIZE
    ]
    table = markdown(["512×512, float32: ms", "first", "at the end"], rows)
    return f"{table}\n\n<sub>{made_by(record)}</sub>"


def by_contender(rows: Iterable[dict]) -> dict[str, dict[tuple[int, int], dict]]:
    """Contender → sides → row."""
    found: dict[str, dict[tuple[int, int], dict]] = {}
    for r in rows:
        found.setdefault(r["contender"], {})[r["m"], r["n"]] = r
    return found


def exponent(rows: dict[tuple[int, int], dict]) -> float:
    """Of n in the time of square matrices, by least squares in logarithms."""
    points = [(m, spread(r["ms"])[1]) for (m, n), r in rows.items() if m == n >= LARGE]
    return float(np.polyfit(*np.log(np.transpose(points)), 1)[0])


def milliseconds(row: dict) -> str:
    """Median and range."""
    return median(row["ms"])


def ratio(row: dict, below: dict) -> str:
    """Of two times, median and range over the turns that both took."""
    return median(ratios(row["ms"], below["ms"]))


def percent(share: Iterable[float]) -> str:
    """The median of smallest, median and largest."""
    _, median, _ = share
    return f"{100 * median:.0f} %"


def _error(value: float | None) -> str:
    return "not finite" if value is None else f"{value:.2g}"


def _of_momenta(machine: str, dtype: str) -> dict[str, dict]:
    rows = load(machine, "polar")["accuracy"]
    here = [r for r in rows if (r["m"], r["n"], r["dtype"]) == (128, 512, dtype)]
    return {r["contender"]: r for r in here if r["spectrum"] == "momenta"}


def _total(rows: dict[tuple[int, int], dict], shapes: dict) -> list[float]:
    """Milliseconds for all matrices of a model, turn by turn."""
    parts = [[count * ms for ms in rows[shape]["ms"]] for shape, count in shapes.items()]
    return [sum(turn) for turn in zip(*parts)]


TABLES: dict[str, Callable[[str], str]] = {
    "polar_float32": lambda machine: sizes_table(machine, "float32"),
    "polar_bfloat16": lambda machine: sizes_table(machine, "bfloat16"),
    "polar_models": models_table,
    "polar_accuracy": accuracy_table,
    "polar_spectra": lambda machine: spectra_table(machine, "float32"),
    "polar_spectra_bfloat16": lambda machine: spectra_table(machine, "bfloat16"),
    "polar_costs": costs_table,
    "polar_again": again_table,
}
