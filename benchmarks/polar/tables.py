"""Tables of `python -m benchmarks polar`, from its JSON."""

from collections.abc import Callable, Iterable

import numpy as np

from benchmarks.polar.matrices import SPECTRA
from benchmarks.polar.studies import BY_MODEL, BY_SIZE, OURS, SIZES
from benchmarks.record import load
from benchmarks.shapes import MODELS
from benchmarks.text import markdown, median, written
from muon_optax import theory
from muon_optax.coefficients import JORDAN
from muon_optax.comparison._timing import ratios, spread

LABELS = {
    "jordan q=5": "Newton-Schulz",
    "jordan q=5, bfloat16 products": "bfloat16 products",
    "fast": "fast",
    "polar_express q=8": "Polar Express q = 8",
    "svd": "SVD",
    "qdwh": "QDWH",
    "scipy polar": "`scipy.linalg.polar`",
    "optax.contrib": "`optax.contrib`",
}
SHOWN = (
    *(f"taylor{kappa} q=5" for kappa in (1, 2, 3, 4)),
    *("jordan q=5", "fast", "you q=5", "polar_express q=5", "polar_express q=8"),
    *("near_exact", "taylor2 q=12", "cans q=12"),
    *(f"jordan q=5, {dtype} products" for dtype in ("bfloat16", "float16")),
    *("svd", "qdwh", "optax.contrib", "svd × 0.6"),
)
NOT_RUN, NOT_FINITE = "not run", "not finite"
LARGE = 256  # the smallest side to which a power of n is fitted


def sizes_table(machine: str, dtype: str) -> str:
    """Time of Newton-Schulz by size, and the other times relative to it."""
    record = load(machine, "polar")
    found = by_contender(r for r in record["sizes"] if r["dtype"] == dtype)
    others = [name for name in BY_SIZE if name in found and name != OURS]

    def row(shape: tuple[int, int]) -> list[str]:
        ours = found[OURS][shape]
        against = [ratio(found[name].get(shape), ours) for name in others]
        cells = ["{}×{}".format(*shape), median(ours["ms"]), percent(ours["share_of_peak"])]
        return cells + against

    header = [dtype, f"{LABELS[OURS]} (NS), ms", "share of peak"]
    header += [f"{LABELS[name]} / NS" for name in others]
    growth = [f"n^{exponent(found[name]):.2f}" for name in (OURS, *others) if name in found]
    last = [f"growth, n ≥ {LARGE}", *growth[:1], "", *growth[1:]]
    shapes = [shape for shape in SIZES if shape in found.get(OURS, {})]
    return written(record, header, [*map(row, shapes), last])


def models_table(machine: str) -> str:
    """The polar factors of all matrices of a model."""
    record = load(machine, "polar")
    found = by_contender(record["models"])
    rows = []
    for model, shapes in MODELS.items():
        flops = sum(c * theory.flops(JORDAN.schedule(5), *s) for s, c in shapes.items())
        ours, *others = (_total(found.get(name, {}), shapes) for name in BY_MODEL)
        cells = [model, f"{sum(shapes.values())}", f"{flops / 1e12:.2f}"]
        if ours is None:
            rows.append([*cells, NOT_RUN, *[""] * len(others)])
            continue
        cells += ["{1:.3g} ({0:.3g} to {2:.3g})".format(*ours)]
        rows.append(cells + [f"{o[1] / ours[1]:.3g}" if o else NOT_RUN for o in others])
    header = ["model", "matrices", "TFLOP", "Newton-Schulz (NS), s"]
    header += [f"{LABELS[name]} / NS" for name in BY_MODEL if name != OURS]
    return written(record, header, rows)


def accuracy_table(machine: str) -> str:
    """Time and accuracy of every method on momenta of a training run."""
    record = load(machine, "polar")
    wanted = {"m": 128, "n": 512, "dtype": "float32", "spectrum": "momenta"}
    rows = [r for r in record["accuracy"] if wanted.items() <= r.items()]
    return case_table([r for name in SHOWN for r in rows if r["contender"] == name], record)


def spectra_table(machine: str, dtype: str) -> str:
    """The error of every method of the library on every spectrum."""
    record = load(machine, "polar")
    square = [r for r in record["accuracy"] if r["dtype"] == dtype and r["m"] == r["n"]]
    error = {(r["contender"], r["spectrum"]): _number(r["error"]) for r in square}
    names = [name for name in SHOWN if name != "svd × 0.6"]
    rows = [[f"`{name}`", *(error.get((name, s), "") for s in SPECTRA)] for name in names]
    return written(record, [f"error at 512×512, {dtype}", *SPECTRA], rows)


def costs_table(machine: str) -> str:
    """Compile time, memory and operations of every method's program."""
    record = load(machine, "polar")
    wanted = {"m": 768, "n": 3072, "dtype": "float32"}
    rows = []
    for r in record["sizes"]:
        if wanted.items() <= r.items():
            flops = "–" if r["flops"] is None else f"{r['flops'] / 1e9:.1f}"
            compiling = f"{r['trace_s']:.2f} + {r['compile_s']:.2f}"
            cells = [LABELS[r["contender"]], compiling, f"{r['hlo_lines']}"]
            xla = f"{(r['xla_flops'] or 0) / 1e9:.1f}"
            rows.append([*cells, f"{r['temp_over_input']:.2f}", flops, xla])
    header = ["768×3072, float32", "trace + compile, s", "HLO lines", "temporary memory"]
    return written(record, [*header, "GFLOP by formula", "GFLOP by XLA"], rows)


def case_table(rows: list[dict], record: dict | None = None) -> str:
    """Time and accuracy on one batch of matrices, Newton-Schulz among the rows."""
    ours = next((r for r in rows if r["contender"] == OURS), None)
    table = []
    for r in rows:
        band = NOT_FINITE if r.get("band") is None else "{:.3g} to {:.4g}".format(*r["band"])
        cells = [f"`{r['contender']}`", median(r["ms"]), ratio(r, ours)]
        verdict = [_number(r.get(name)) for name in ("error", "alignment", "orthogonality")]
        table.append([*cells, verdict[0], band, *verdict[1:]])
    shape = "{count}×{m}×{n} {dtype}, {spectrum}".format(**rows[0]) if rows else ""
    header = [shape, "ms per matrix", "time / NS", "error", "singular values"]
    header += ["alignment", "orthogonality"]
    return written(record, header, table) if record else markdown(header, table)


def case_tables(rows: list[dict]) -> str:
    """One after another, of rows on several batches."""
    cases: dict[tuple, list[dict]] = {}
    for r in rows:
        cases.setdefault((r["m"], r["n"], r["dtype"], r["spectrum"]), []).append(r)
    return "\n\n".join(map(case_table, cases.values()))


def by_contender(rows: Iterable[dict]) -> dict[str, dict[tuple[int, int], dict]]:
    """Contender → sides → row."""
    found: dict[str, dict[tuple[int, int], dict]] = {}
    for r in rows:
        found.setdefault(r["contender"], {})[r["m"], r["n"]] = r
    return found


def exponent(rows: dict[tuple[int, int], dict]) -> float:
    """Of n in the time of square matrices, by least squares in logarithms."""
    points = [(m, spread(r["ms"])[1]) for (m, n), r in rows.items() if m == n >= LARGE]
    if len(points) < 2:
        return np.nan
    return float(np.polyfit(*np.log(np.transpose(points)), 1)[0])


def ratio(row: dict | None, below: dict) -> str:
    """Of two times, median and range over the turns that both took."""
    return NOT_RUN if row is None else median(ratios(row["ms"], below["ms"]))


def percent(share: Iterable[float] | None) -> str:
    """The median of smallest, median and largest."""
    if share is None:
        return "–"
    _, middle, _ = share
    return f"{100 * middle:.0f} %"


def _number(value: float | None) -> str:
    return NOT_FINITE if value is None else f"{value:.2g}" if value < 0.1 else f"{value:.3g}"


def _total(rows: dict[tuple[int, int], dict], shapes: dict) -> list[float] | None:
    """Seconds for all matrices of a model; smallest, median and largest of every shape summed.

    None where a shape was not run.
    """
    if not all(shape in rows for shape in shapes):
        return None
    parts = [[n * ms / 1000 for ms in spread(rows[s]["ms"])] for s, n in shapes.items()]
    return [sum(part) for part in zip(*parts)]


TABLES: dict[str, Callable[[str], str]] = {
    "polar_float32": lambda machine: sizes_table(machine, "float32"),
    "polar_bfloat16": lambda machine: sizes_table(machine, "bfloat16"),
    "polar_models": models_table,
    "polar_accuracy": accuracy_table,
    "polar_spectra": lambda machine: spectra_table(machine, "float32"),
    "polar_spectra_bfloat16": lambda machine: spectra_table(machine, "bfloat16"),
    "polar_costs": costs_table,
}
