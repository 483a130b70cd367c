"""What is measured: sizes, models and accuracy, in the order of their use."""

from benchmarks.polar.contenders import CONTENDERS
from benchmarks.polar.group import Group
from benchmarks.polar.matrices import SPECTRA
from benchmarks.shapes import distinct
from muon_optax import theory
from muon_optax.coefficients import JORDAN
from muon_optax.comparison._timing import PAUSE_S, SAMPLE_S, current_platform, rounds_for

SIZES = tuple((n, n) for n in (64, 128, 256, 512, 1024, 2048)) + ((768, 3072),)
OURS = "jordan q=5"  # the default, to which all are compared
BY_SIZE = (
    OURS,
    "jordan q=5, bfloat16 products",
    "fast",
    "polar_express q=8",
    "svd",
    "qdwh",
    "scipy polar",
    "optax.contrib",
)
BY_MODEL = (OURS, "optax.contrib", "svd")

# Operations on one matrix above which it is left out, and on those that are timed together.
# Fixed, not from the measured peak: a run that goes on must plan what the stopped one did.
MOST, TOGETHER = (1e12, 2e11) if current_platform() == "cpu" else (1e14, 5e12)

COMPILING_S = 0.5  # of a program, seen on two cores
PARETO = ((3, 128, 512), (1, 512, 512))  # the captured momenta's own shape, and a square
AGAIN = Group(1, 512, 512, "float32", ("gaussian",), BY_SIZE)
SMOKE = Group(2, 16, 24, "float32", ("half rank",), (OURS, "svd", "qdwh"))


def planned() -> dict[str, list[Group]]:
    """Groups under the study they belong to; "again" measures some rows a second time."""
    return {
        "sizes": [
            Group(1, m, n, dtype, ("gaussian",), BY_SIZE)
            for dtype in ("float32", "bfloat16")
            for m, n in SIZES
        ],
        "models": _models(),
        "accuracy": [
            Group(*shape, dtype, tuple(SPECTRA), tuple(CONTENDERS))
            for shape in PARETO
            for dtype in ("float32", "bfloat16")
        ],
        "again": [AGAIN],
    }


def seconds_of(group: Group, rate: float) -> float:
    """A guess at what a group takes, at so many operations a second."""
    total = 0.0
    for contender in group.taking_part.values():
        decomposed = 60 * group.m * group.n * min(group.m, group.n)  # seen: 10 to 200
        flops = group.flops(contender) or group.count_for(contender) * decomposed
        once = max(flops / rate, SAMPLE_S)
        total += (
            len(group.spectra) * (rounds_for(once) + 1) * (once + PAUSE_S[current_platform()])
            + COMPILING_S
        )
    return total


def _models() -> list[Group]:
    groups = []
    for (m, n), count in distinct().items():
        flops = theory.flops(JORDAN.schedule(5), m, n)
        if flops < MOST:
            batch = min(count, max(1, int(TOGETHER / flops)))
            groups.append(Group(batch, m, n, "float32", ("gaussian",), BY_MODEL))
    return groups
