"""Whole updates compiled for a TPU or a GPU: facts of the programs and estimated times.

XLA's compilers need no device. The kernels of a program, their bytes, its copies and its memory
are facts. Times are estimates. On a TPU a time is the sum of XLA's own `estimated_cycles`,
which omit prefetches between memories. On a GPU it is a roofline: each kernel takes its launch
time plus the larger of operations over peak and bytes over bandwidth. Nothing is measured.
"""

from collections.abc import Collection, Sequence
from typing import Any

from benchmarks.programs import measure, tables
from benchmarks.programs.floor import floor
from benchmarks.programs.models import MODELS
from benchmarks.programs.optimizers import ADAMW, OURS, POLAR_SIDES, POLARS, UPDATES
from benchmarks.record import RESULTS, provenance, save
from muon_optax.estimates._kernels import Kernel
from muon_optax.estimates._targets import NEEDED, TARGETS, MissingCompiler, Target, installed

SMOKE_MODEL = "256x2"
_ALL = tuple(name for name in MODELS if name != SMOKE_MODEL)
_SOME = ("768x2", "2048x2")
# Target → models whose results are saved.
KEPT = {"v5e": _ALL, "h100": _ALL, "v5p": _SOME, "v6e": _SOME, "h200": _SOME}
ALONE = ("v5e", "h100")  # targets for the polar step alone
FOLDER = RESULTS / "programs"


def main(
    smoke: bool = False,
    targets: Sequence[str] = (),
    models: Sequence[str] = (),
    top: int = 0,
) -> None:
    """Compile and print; save the results if neither targets nor models are named."""
    check_known("target", targets, TARGETS)
    check_known("model", models, MODELS)
    try:
        for name in targets or (ALONE if smoke else KEPT):
            TARGETS[name].device()
    except MissingCompiler as error:
        raise SystemExit(f"{error}") from error
    made_by, keep = provenance() | versions(), not (smoke or targets or models)
    kept: dict[str, Any] = {"updates": {}, "polar": {}}
    for name in targets or (ALONE if smoke else KEPT):
        of_it = kept["updates"].setdefault(name, {})
        for model in models or ((SMOKE_MODEL,) if smoke else KEPT.get(name, _ALL)):
            programs = (OURS, ADAMW) if smoke else tuple(UPDATES)
            of_it[model] = _updates(TARGETS[name], model, programs, top)
            print(f"\n{tables.updates({name: {model: of_it[model]}})}", flush=True)
            if keep:
                save("programs", made_by, kept, FOLDER)
    for name in () if smoke or models else targets or ALONE:
        for line in _polars(TARGETS[name], kept["polar"].setdefault(name, {})):
            print(line, flush=True)
            if keep:
                save("programs", made_by, kept, FOLDER)


def check_known(what: str, names: Sequence[str], known: Collection[str]) -> None:
    """SystemExit with what is known, if a name is not."""
    if unknown := [name for name in names if name not in known]:
        raise SystemExit(f"--{what} {' '.join(unknown)}: use some of {', '.join(known)}")


def _updates(target: Target, name: str, programs: Sequence[str], top: int) -> dict[str, Any]:
    """The floor, and each program's row."""
    model = MODELS[name]()
    found: dict[str, Any] = {"floor": floor(model, target), "programs": {}}
    for program in programs:
        row, kernels = measure.update(program, model, target)
        found["programs"][program] = row
        if top:
            print(f"\n{program}, {name}, {target.name}: the slowest kernels by estimate")
            print("\n".join(_lines(kernels, top)), flush=True)
    return found


def _polars(target: Target, kept: dict[str, Any]):
    """Fills `kept`, and says what each is."""
    for m, n in POLAR_SIDES:
        for name in POLARS:
            row, _ = measure.polar(name, m, n, target)
            kept.setdefault(f"{m}×{n}", {})[name] = row
            yield (
                f"{target.name}, {name} of {m}×{n}: compiled in {row['compile_s']} s, "
                f"code {row['code_bytes'] / 1e6:.1f} MB, temp {row['temp_bytes'] / 1e6:.1f} MB"
            )


def _lines(kernels: dict[str, list[Kernel]], count: int) -> list[str]:
    """The kernels with the largest estimate, or the most bytes where none has one."""
    found = [(kind, kernel) for kind, of_it in kernels.items() for kernel in of_it]
    estimated = any(kernel.estimate is not None for _, kernel in found)

    def weight(kernel: Kernel) -> float:
        return (kernel.times or 1) * ((kernel.estimate or 0) if estimated else kernel.bytes)

    return [
        f"  {weight(k):12.4g} {kind:8} × {k.times} {k.bytes / 1e6:8.2f} MB "
        f"{k.line.name} {k.line.result}"
        for kind, k in sorted(found, key=lambda item: weight(item[1]), reverse=True)[:count]
    ]


def versions() -> dict[str, str]:
    """Of the compilers that are installed."""
    packages = (name for of_kind in NEEDED.values() for name in of_kind)
    return {name: found for name in packages if (found := installed(name))}
