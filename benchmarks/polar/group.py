"""The measurement of a group of contenders: the same matrices, taking turns."""

from dataclasses import dataclass
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np

from benchmarks.compiled import compiled, size_in_bytes
from benchmarks.peak import best_matmul
from benchmarks.polar.contenders import CONTENDERS, Contender
from benchmarks.polar.matrices import make, rank
from muon_optax.comparison._accuracy import decompose, judge
from muon_optax.comparison._timing import current_platform, milliseconds, spread, take_turns

ALL_OF_THEM = 256  # up to this short side a decomposition takes all matrices, then one
LARGEST_DECOMPOSED = 2048  # short side; above it neither timed nor taken for reference


@dataclass(frozen=True)
class Group:
    """`[count, m, n]` of one dtype: what is measured in turns."""

    count: int
    m: int
    n: int
    dtype: str
    spectra: tuple[str, ...]
    contenders: tuple[str, ...]

    @property
    def taking_part(self) -> dict[str, Contender]:
        """Those that can be waited for."""
        large = min(self.m, self.n) > LARGEST_DECOMPOSED
        chosen = {name: CONTENDERS[name] for name in self.contenders}
        return {name: c for name, c in chosen.items() if c.flops or not large}

    def count_for(self, contender: Contender) -> int:
        """How many matrices it is given: of large ones a decomposition takes one."""
        small = min(self.m, self.n) <= ALL_OF_THEM
        return self.count if contender.flops or small else 1

    def operands(self, contender: Contender) -> str | None:
        """The dtype of its products' operands; None where XLA may choose another.

        Left to itself, it takes TF32 on an NVIDIA GPU, and float32 for bfloat16 on a CPU.
        """
        known = self.dtype == "float32" and current_platform() == "cpu"
        return contender.products or (self.dtype if known else None)

    def flops(self, contender: Contender) -> int | None:
        """Operations by formula, of all matrices given; None for a decomposition."""
        if contender.flops is None:
            return None
        return self.count_for(contender) * contender.flops(self.m, self.n)


def measure(group: Group) -> list[dict]:
    """A row per spectrum and contender; see `row` for its columns."""
    programs = {}
    for name, contender in group.taking_part.items():
        shape = (group.count_for(contender), group.m, group.n)
        given = jax.ShapeDtypeStruct(shape, jnp.dtype(group.dtype))
        program, costs = compiled(contender.polar, given)
        costs["temp_over_input"] = round(costs.pop("temp_bytes") / size_in_bytes(given), 3)
        programs[name] = program, costs
    return [row for spectrum in group.spectra for row in _on_one(group, spectrum, programs)]


def _on_one(group: Group, spectrum: str, programs: dict) -> list[dict]:
    """Time all on one batch of matrices, then judge each on the first of them."""
    x = make(spectrum, group.count, group.m, group.n, group.dtype)
    contenders = group.taking_part
    given = {name: jnp.asarray(x[: group.count_for(c)]) for name, c in contenders.items()}
    calls = {name: partial(program, given[name]) for name, (program, _) in programs.items()}
    operands = {name: group.operands(c) for name, c in contenders.items()}
    matmuls = {dtype: best_matmul(dtype) for dtype in filter(None, operands.values())}
    samples = take_turns(calls | {dtype: call for dtype, (call, _) in matmuls.items()})
    peaks = {dtype: flops / min(samples[dtype]) for dtype, (_, flops) in matmuls.items()}
    exact = None
    if min(group.m, group.n) <= LARGEST_DECOMPOSED:
        exact = decompose(x[0], rank(spectrum, group.m, group.n))
    rows = []
    for name, contender in contenders.items():
        row = {"contender": name, "count": group.count_for(contender)}
        row |= {"m": group.m, "n": group.n, "dtype": group.dtype, "spectrum": spectrum}
        row |= {"ms": milliseconds(samples[name], row["count"])} | programs[name][1]
        row |= {"flops": group.flops(contender), "peak_flops": peaks.get(operands[name])}
        row |= {"share_of_peak": _share(row["flops"], samples[name], row["peak_flops"])}
        if exact is not None:
            row |= judge(exact, np.asarray(calls[name]()[0]))
        rows.append(row)
    return rows


def _share(flops: int | None, samples: list[float], peak: float | None) -> list[float] | None:
    """Of the fastest product of the same turns: smallest, median and largest."""
    if flops is None or peak is None:
        return None
    return [round(flops / seconds / peak, 4) for seconds in reversed(spread(samples))]
