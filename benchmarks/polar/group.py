"""Knows how a group of contenders is measured: on the same matrices, taking turns."""

from dataclasses import dataclass
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np

from benchmarks.compiled import compiled, size_in_bytes
from benchmarks.peak import best_matmul
from benchmarks.polar.accuracy import decompose, judge
from benchmarks.polar.contenders import CONTENDERS, Contender
from benchmarks.polar.matrices import make, rank
from benchmarks.timing import spread, take_turns
from muon_optax import theory

ALL_OF_THEM = 256  # up to this side a decomposition takes all matrices of a group, then one
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
        return {name: c for name, c in chosen.items() if c.schedule or not large}

    def count_for(self, contender: Contender) -> int:
        """How many matrices it is given: large decompositions take one after another anyway."""
        small = min(self.m, self.n) <= ALL_OF_THEM
        return self.count if contender.schedule or small else 1

    def flops(self, contender: Contender) -> int | None:
        """Operations by formula, of all matrices given; None for a decomposition."""
        if contender.schedule is None:
            return None
        return self.count_for(contender) * theory.flops(contender.schedule, self.m, self.n)


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
    dtypes = sorted({c.products or group.dtype for c in contenders.values()})
    peaks = {f"peak {dtype}": best_matmul(dtype) for dtype in dtypes}
    samples = take_turns(calls | {name: call for name, (call, _) in peaks.items()})
    exact = None
    if min(group.m, group.n) <= LARGEST_DECOMPOSED:
        exact = decompose(x[0], rank(spectrum, group.m, group.n))
    rows = []
    for name, contender in contenders.items():
        peak = f"peak {contender.products or group.dtype}"
        row = {"contender": name, "count": group.count_for(contender)}
        row |= {"m": group.m, "n": group.n, "dtype": group.dtype, "spectrum": spectrum}
        row |= _times(samples[name], row["count"])
        row |= programs[name][1] | {"flops": group.flops(contender)}
        row |= _share(row["flops"], samples[name], peaks[peak][1], samples[peak])
        if exact is not None:
            row |= judge(exact, np.asarray(calls[name]()[0]))
        rows.append(row)
    return rows


def _times(samples: list[float], count: int) -> dict:
    """Milliseconds for one matrix, of every sample."""
    return {"ms": [float(f"{1000 * s / count:.5g}") for s in samples]}


def _share(flops: int | None, samples: list[float], peak: int, of_peak: list[float]) -> dict:
    """Of the matmul peak at the products' dtype: the fastest one of the same turns."""
    if flops is None:
        return {"share_of_peak": None}
    rate = peak / min(of_peak)
    return {"share_of_peak": [round(flops / s / rate, 4) for s in reversed(spread(samples))]}
