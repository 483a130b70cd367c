"""A plan as a table: one line for all leaves that are trained in the same way."""

import html
import math
import re
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from muon_optax._ranges import is_full_range, range_of_paths, without_numbers
from muon_optax._text import align
from muon_optax.polar._method import PolarMethod
from muon_optax.polar._newton_schulz import NewtonSchulz

_COLUMNS = ["leaf", "shape", "role", "optimizer", "fan_in × fan_out", "scale", "rate"]
_COLUMNS += ["method", "factor", "cosine", "needs"]
_UNITS = {"PFLOP": 1e15, "TFLOP": 1e12, "GFLOP": 1e9, "MFLOP": 1e6, "kFLOP": 1e3, "FLOP": 1}


@dataclass(frozen=True)
class LeafPlan:
    """How one parameter is trained.

    Attributes:
      path: Its path, such as `"layers/0/mlp/kernel"`.
      shape: The shape of the array.
      optimizer: `"Muon"` or `"fallback"`.
      role: The role that the deciding rule gives it, in words.
      why: The number of that rule in `dims`, its pattern and spec; or the other leaves that say
        so, or the spec given.
      matrices: `(count, fan_in, fan_out)`, once for each part of a fused leaf; empty for the
        fallback.
      scales: The shape factor for each of `matrices`.
      rates: The learning rate times the shape factor for each of `matrices`; for a leaf of the
        fallback its rate. Empty if `plan` got no number.
      flops: Operations of the polar factors in one step; None if the method does not say.
      doubt: Why the treatment may be wrong; None if nothing looks wrong.
      method: Its polar method; None for the fallback.
      factor: `theory.certificate(method, spectrum=...).factor`, the largest over the spectra of
        its matrices; None without.
      cosine: `theory.cosine(method, spectrum)`, the least over them; None without.
      needed: The cheapest method that has the cosine wanted; None without spectra, or if there
        is none.
    """

    path: str
    shape: tuple[int, ...]
    optimizer: str
    role: str
    why: str
    matrices: tuple[tuple[int, int, int], ...]
    scales: tuple[float, ...]
    rates: tuple[float, ...]
    flops: float | None
    doubt: str | None
    method: PolarMethod | None = None
    factor: float | None = None
    cosine: float | None = None
    needed: NewtonSchulz | None = None

    @property
    def size(self) -> int:
        """The number of elements."""
        return math.prod(self.shape)


@dataclass(frozen=True)
class Plan:
    """How each parameter is trained; `print` it, or let a notebook show it.

    Leaves that are trained in the same way share a line: `layers_{0..11}/kernel` is twelve
    leaves. Shape, matrices and rates on that line are those of one leaf; operations (the last
    column, in a unit that suits the total) are those of all of them in one step. `rate`
    includes the factor `scale`. `(?)` marks a doubtful leaf.

    Attributes:
      leaves: One for each parameter, in the order of `jax.tree.leaves`.
      unused: A sentence for each rule of your own that no leaf uses.
      advice: The rules that settle the doubtful leaves; None if there are none.
      show_why: Whether it ends with the rules that decided.

    Example:
      >>> import jax.numpy as jnp
      >>> from muon_optax import plan
      >>> for leaf in plan({"kernel": jnp.ones((64, 256)), "bias": jnp.ones(256)}).leaves:
      ...     print(leaf.path, leaf.role, leaf.matrices, leaf.scales)
      bias bias () ()
      kernel matrix ((1, 64, 256),) (2.0,)
    """

    leaves: tuple[LeafPlan, ...]
    unused: tuple[str, ...] = ()
    advice: str | None = None
    show_why: bool = False

    @property
    def methods(self) -> dict[str, PolarMethod]:
        """Path → the method needed, else its own, of every matrix: for `muon(method=...)`."""
        return {leaf.path: leaf.needed or leaf.method for leaf in self.leaves if leaf.method}

    @property
    def doubts(self) -> tuple[LeafPlan, ...]:
        """The leaves whose treatment may be wrong."""
        return tuple(leaf for leaf in self.leaves if leaf.doubt)

    def __str__(self) -> str:
        return "\n".join([align(self._lines()), "", *self._remarks()])

    def _repr_html_(self) -> str:
        def row(tag: str, cells: Iterable[str]) -> str:
            marked = (f"<{tag}>{html.escape(cell)}</{tag}>" for cell in cells)
            return f"<tr>{''.join(marked)}</tr>"

        head, *lines = self._lines()
        body = "".join(row("td", line) for line in lines)
        remarks = html.escape("\n".join(self._remarks()))
        return f"<table>{row('th', head)}{body}</table><pre>{remarks}</pre>"

    def _lines(self) -> list[list[str]]:
        """The cells of the table, its head first, without columns that say nothing."""
        unit = _unit_of(self._flops)
        lines = [[*_COLUMNS, unit], *(_row(group, _UNITS[unit]) for group in self._groups())]
        kept = [column for column in zip(*lines) if self._says_something(*column)]
        return [list(line) for line in zip(*kept)]

    def _says_something(self, head: str, *cells: str) -> bool:
        """Whether a cell is not empty; one method for all matrices is known."""
        return len({*cells} - {""}) > (head == "method")

    def _groups(self) -> list[list[LeafPlan]]:
        """The leaves of each line."""
        alike: dict[tuple, list[LeafPlan]] = {}
        for leaf in self.leaves:
            path = without_numbers(leaf.path)
            measured = leaf.path if leaf.factor else None  # which has a line of its own
            key = path, leaf.shape, leaf.role, leaf.why, leaf.doubt, measured, repr(leaf.method)
            alike.setdefault(key, []).append(leaf)
        groups = []
        for leaves in alike.values():
            full = is_full_range([leaf.path for leaf in leaves])
            groups += [leaves] if full else [[leaf] for leaf in leaves]
        return groups

    @property
    def _flops(self) -> float:
        return sum(leaf.flops or 0 for leaf in self.leaves)

    def _remarks(self) -> list[str]:
        muon = [leaf for leaf in self.leaves if leaf.matrices]
        trained = sum(leaf.size for leaf in muon)
        total = sum(leaf.size for leaf in self.leaves)
        count = sum(count for leaf in muon for count, _, _ in leaf.matrices)
        noun = "matrix" if count == 1 else "matrices"
        said = f"Muon trains {trained:,} of {total:,} parameters: {count:,} {noun}."
        if flops := self._flops:
            unit = _unit_of(flops)
            cost = f"{_format_operations(flops / _UNITS[unit])} {unit}"
            whose = "Its polar factor takes" if count == 1 else "Their polar factors take"
            others = sum(leaf.flops is None for leaf in muon)
            but = f", not counting other methods ({others})" if others else ""
            said += f" {whose} {cost} a step{but}."
        remarks = [said, *list_problems(self.unused, self.advice)]
        if self.show_why:
            reasons = dict.fromkeys(f"{leaf.role}: {leaf.why}" for leaf in self.leaves)
            remarks += ["", "Why, rule by rule:", *reasons]
        return remarks


def list_problems(unused: Sequence[str], advice: str | None) -> list[str]:
    """What looks wrong with a plan, and what to write instead."""
    problems = list(unused)
    if unused:
        where = ", as below." if advice else "."
        problems.append(f"Correct an unused rule or leave it out{where}")
    if advice:
        problems.append(f"plan is {advice}")
    return problems


def _row(leaves: Sequence[LeafPlan], unit: float) -> list[str]:
    """The cells for leaves that are trained in the same way."""
    first = leaves[0]
    counts: Counter[tuple[int, int]] = Counter()
    for count, fan_in, fan_out in first.matrices:
        counts[fan_in, fan_out] += count
    matrices = [
        f"{count} of {fan_in} × {fan_out}" if count > 1 else f"{fan_in} × {fan_out}"
        for (fan_in, fan_out), count in counts.items()
    ]
    flops = sum(leaf.flops or 0 for leaf in leaves)
    return [
        range_of_paths([leaf.path for leaf in leaves]),
        "×".join(map(str, first.shape)) or "scalar",
        f"{first.role} (?)" if first.doubt else first.role,
        first.optimizer,
        ", ".join(matrices),
        _format_numbers(first.scales),
        _format_numbers(first.rates),
        _format_method(first.method) if first.method else "",
        f"{first.factor:.3g}" if first.factor else "",
        f"{first.cosine:.3f}" if first.cosine is not None else "",
        _format_method(first.needed) if first.factor else "",
        _format_operations(flops / unit) if flops else "",
    ]


def _format_method(method: PolarMethod | None) -> str:
    """Its name and steps, such as `polar_express:8`, or what else its `repr` says."""
    text = "–" if method is None else f"{method!r:.60}"
    return re.sub(r"NewtonSchulz\('(\w+)', (\d+)\)$", r"\1:\2", text)


def _unit_of(flops: float) -> str:
    """The largest unit of which the operations are one or more."""
    return next((unit for unit, size in _UNITS.items() if flops >= size), "FLOP")


def _format_operations(value: float) -> str:
    """Three digits, or three after the point: never an exponent."""
    if value < 0.0005:
        return "<0.001"
    return f"{value:.3f}" if value < 1 else f"{value:,.0f}" if value >= 100 else f"{value:.3g}"


def _format_numbers(values: Iterable[float]) -> str:
    """Three digits of each distinct number."""
    return ", ".join(dict.fromkeys(f"{value:.3g}" for value in values))
