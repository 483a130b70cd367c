"""A plan as a table, where leaves that are trained in the same way share a line."""

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
      path: The leaf's path, such as `"layers/0/mlp/kernel"`.
      shape: The shape of the array.
      optimizer: `"Muon"` or `"fallback"`.
      role: The leaf's role according to the rule that decided, in words.
      why: The number, pattern and spec of the rule that decided, or the evidence from other
        leaves, or the given spec.
      matrices: `(count, fan_in, fan_out)` of the leaf, or of each part of a fused leaf; empty
        for the fallback.
      scales: The shape factor for each of `matrices`.
      rates: The learning rate times the shape factor for each of `matrices`, or the fallback's
        rate. Empty if `plan` got no number.
      flops: Operations for the polar factors in one step; None if the method does not count
        its operations.
      doubt: Why the treatment may be wrong; None if nothing looks wrong.
      method: The polar method; None for the fallback.
      factor: The largest `theory.certificate(method, spectrum=...).factor` of its matrices;
        None without spectra.
      cosine: The smallest `theory.cosine(method, spectrum)` of its matrices; None without
        spectra.
      needed: The cheapest method that reaches the wanted cosine; None if there is no such
        method, or without spectra.
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
    """How each parameter is trained. `print` a plan, or let a notebook show it.

    Leaves that are trained in the same way share a line: `layers_{0..11}/kernel` stands for
    twelve leaves. Shape, matrices and rates on a line are those of one leaf. The last column
    has the operations per step for all leaves of the line. `rate` includes the factor `scale`.
    `(?)` marks a doubtful leaf.

    Attributes:
      leaves: One `LeafPlan` for each parameter, in the order of `jax.tree.leaves`.
      unused: A sentence for each of your rules that no leaf uses.
      advice: Rules that settle the doubtful leaves; None if there are none.
      show_why: Whether to list the rules that decided, and why leaves are doubtful.

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
        """Path → the needed method, or else the current method, for `muon(method=...)`."""
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
        """Return the cells of the table, headings first, without columns that say nothing."""
        unit = _unit_of(self._flops)
        lines = [[*_COLUMNS, unit], *(_row(group, _UNITS[unit]) for group in self._groups())]
        kept = [column for column in zip(*lines) if self._says_something(*column)]
        return [list(line) for line in zip(*kept)]

    def _says_something(self, head: str, *cells: str) -> bool:
        """Return whether to show a column: not if it is empty, or if all methods are equal."""
        return len({*cells} - {""}) > (head == "method")

    def _groups(self) -> list[list[LeafPlan]]:
        """Return the leaves of each line."""
        alike: dict[tuple, list[LeafPlan]] = {}
        for leaf in self.leaves:
            path = without_numbers(leaf.path)
            measured = leaf.path if leaf.factor else None  # a leaf with spectra is not grouped
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
            leaves = "leaf" if others == 1 else "leaves"
            but = f", not counting {others} {leaves} of unknown cost" if others else ""
            said += f" {whose} {cost} a step{but}."
        remarks = [said, *list_problems(self.unused, self.advice)]
        if self.show_why:
            reasons = dict.fromkeys(f"{leaf.role}: {leaf.why}" for leaf in self.leaves)
            doubts = [
                f"{range_of_paths([leaf.path for leaf in leaves])} (?): {leaves[0].doubt}"
                for leaves in self._groups()
                if leaves[0].doubt and leaves[0].doubt != leaves[0].why
            ]
            remarks += ["", "Why, rule by rule:", *reasons]
            remarks += ["", "Doubts:", *doubts] if doubts else []
        return remarks


def list_problems(unused: Sequence[str], advice: str | None) -> list[str]:
    """Say what looks wrong with a plan, and what to write instead."""
    problems = list(unused)
    if unused:
        where = ", as below." if advice else "."
        problems.append(f"Correct an unused rule or remove it{where}")
    if advice:
        problems.append(f"plan is {advice}")
    return problems


def _row(leaves: Sequence[LeafPlan], unit: float) -> list[str]:
    """Return the cells of leaves that are trained in the same way."""
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
    """Write a method as name and steps, such as `polar_express:8`, or as its `repr`."""
    text = "–" if method is None else f"{method!r:.60}"
    return re.sub(r"NewtonSchulz\('(\w+)', (\d+)\)$", r"\1:\2", text)


def _unit_of(flops: float) -> str:
    """Return the largest unit in which the number is at least 1."""
    return next((unit for unit, size in _UNITS.items() if flops >= size), "FLOP")


def _format_operations(value: float) -> str:
    """Write a number with three digits (below 1, three decimals), without an exponent."""
    if value < 0.0005:
        return "<0.001"
    return f"{value:.3f}" if value < 1 else f"{value:,.0f}" if value >= 100 else f"{value:.3g}"


def _format_numbers(values: Iterable[float]) -> str:
    """Write the distinct numbers, with three digits each."""
    return ", ".join(dict.fromkeys(f"{value:.3g}" for value in values))
