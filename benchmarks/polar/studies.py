"""Knows what is measured: sizes, models and accuracy, in the order of their use."""

from benchmarks.peak import rate
from benchmarks.polar.contenders import CONTENDERS
from benchmarks.polar.group import Group
from benchmarks.polar.matrices import SPECTRA
from benchmarks.shapes import MODELS
from muon_optax import theory
from muon_optax.coefficients import JORDAN

SIZES = tuple((n, n) for n in (64, 128, 256, 512, 1024, 2048)) + ((768, 3072),)
BY_SIZE = (
    "jordan q=5",
    "jordan q=5, bfloat16 products",
    "polar_express q=8",
    "svd",
    "qdwh",
    "scipy polar",
    "optax.contrib",
)
BY_MODEL = ("jordan q=5", "optax.contrib", "svd")

LONGEST_S = 10.0  # for Newton-Schulz on one matrix at peak; a larger one is left out
BATCH_S = 1.0  # for Newton-Schulz on all matrices that are timed together

PARETO = ((3, 128, 512), (1, 512, 512))  # the captured momenta's own shape, and a square
AGAIN = Group(1, 512, 512, "float32", ("gaussian",), BY_SIZE)
SMOKE = Group(2, 16, 24, "float32", ("gaussian", "half rank"), ("jordan q=5", "svd", "qdwh"))


def planned() -> dict[str, list[Group]]:
    """Groups under the study they belong to; "again" measures some rows a second time."""
    return {
        "sizes": [
            Group(1, m, n, dtype, ("gaussian",), BY_SIZE)
            for dtype in ("float32", "bfloat16")
            for m, n in SIZES
        ],
        "models": _models(rate("float32")),
        "accuracy": [
            Group(*shape, dtype, tuple(SPECTRA), tuple(CONTENDERS))
            for shape in PARETO
            for dtype in ("float32", "bfloat16")
        ],
        "again": [AGAIN],
    }


def work(group: Group) -> float:
    """A guess at what a group takes, in operations at peak: for the bar and the estimate."""
    flops = 0.0
    for contender in group.taking_part.values():
        by_formula = group.flops(contender)
        decomposed = 100 * group.m * group.n * min(group.m, group.n)  # seen: 40 to 200
        flops += by_formula or group.count_for(contender) * decomposed
    compiling = 2e10 * len(group.taking_part)
    return 8 * len(group.spectra) * flops + compiling


def _models(rate: float) -> list[Group]:
    counts: dict[tuple[int, int], int] = {}
    for shapes in MODELS.values():
        for shape, count in shapes.items():
            counts[shape] = max(count, counts.get(shape, 0))
    groups = []
    for (m, n), count in counts.items():
        seconds = theory.flops(JORDAN.schedule(5), m, n) / rate
        if seconds < LONGEST_S:
            batch = min(count, max(1, int(BATCH_S / seconds)))
            groups.append(Group(batch, m, n, "float32", ("gaussian",), BY_MODEL))
    return groups
