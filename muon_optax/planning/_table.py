"""A plan as a table: one line for all leaves that are trained in the same way."""

import html
import math
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from muon_optax._ranges import is_full_range, range_of_paths, without_numbers

_COLUMNS = [
    "leaf",
    "shape",
    "role",
    "optimizer",
    "fan_in × fan_out",
    "scale",
    "rate",
    "GFLOP",
]


@dataclass(frozen=True)
class LeafPlan:
    """How one parameter is trained.

    Attributes:
      path: Its path, such as `"layers/0/mlp/kernel"`.
      shape: The shape of the array.
      optimizer: `"Muon"` or `"fallback"`.
      role: The role that the deciding rule gives it, in words.
      why: The number of that rule in `dims`, its pattern and spec; or the spec given.
      matrices: `(count, fan_in, fan_out)`, once for each part of a fused leaf; empty for the
        fallback.
      scales: The shape factor for each of `matrices`.
      rates: The learning rate times the shape factor for each of `matrices`; for a leaf of the
        fallback its rate. Empty if `plan` got no number.
      flops: Operations of the polar factors in one step; None if the method does not say.
      doubt: Why the treatment may be wrong; None if nothing looks wrong.
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

    @property
    def size(self) -> int:
        """The number of elements."""
        return math.prod(self.shape)


@dataclass(frozen=True)
class Plan:
    """How each parameter is trained; `print` it, or let a notebook show it.

    Leaves that are trained in the same way share a line: `layers_{0..11}/kernel` is twelve
    leaves. Shape, matrices and rates on that line are those of one leaf; GFLOP are those of all
    of them in one step. `rate` includes the factor `scale`. `(?)` marks a doubtful leaf.

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
    def doubts(self) -> tuple[LeafPlan, ...]:
        """The leaves whose treatment may be wrong."""
        return tuple(leaf for leaf in self.leaves if leaf.doubt)

    def __str__(self) -> str:
        lines = [_COLUMNS, *self._rows()]
        widths = [max(len(line[i]) for line in lines) for i in range(len(_COLUMNS))]
        lines.insert(1, ["-" * width for width in widths])
        table = [
            "  ".join(cell.ljust(width) for cell, width in zip(line, widths)).rstrip()
            for line in lines
        ]
        return "\n".join([*table, "", *self._remarks()])

    def _repr_html_(self) -> str:
        def line(tag: str, cells: Iterable[str]) -> str:
            return "".join(f"<{tag}>{html.escape(cell)}</{tag}>" for cell in cells)

        body = "".join(f"<tr>{line('td', row)}</tr>" for row in self._rows())
        remarks = "".join(f"<pre>{html.escape(text)}</pre>" for text in self._remarks() if text)
        return f"<table><tr>{line('th', _COLUMNS)}</tr>{body}</table>{remarks}"

    def _rows(self) -> list[list[str]]:
        groups: dict[tuple, list[LeafPlan]] = {}
        for leaf in self.leaves:
            path = without_numbers(leaf.path)
            key = path, leaf.shape, leaf.role, leaf.why, leaf.doubt
            groups.setdefault(key, []).append(leaf)
        rows = []
        for group in groups.values():
            if is_full_range([leaf.path for leaf in group]):
                rows.append(_row(group))
            else:
                rows += [_row([leaf]) for leaf in group]
        return rows

    def _remarks(self) -> list[str]:
        muon = [leaf for leaf in self.leaves if leaf.matrices]
        trained = sum(leaf.size for leaf in muon)
        total = sum(leaf.size for leaf in self.leaves)
        count = sum(count for leaf in muon for count, _, _ in leaf.matrices)
        noun = "matrix" if count == 1 else "matrices"
        flops = sum(leaf.flops or 0 for leaf in muon)
        cost = f", {_format_large(flops / 1e9)} GFLOP a step" if flops else ""
        remarks = [f"Muon trains {trained:,} of {total:,} parameters: {count:,} {noun}{cost}."]
        remarks += self.unused
        if self.advice:
            remarks.append(f"Marked (?), plan is {self.advice}")
        if self.show_why:
            reasons = dict.fromkeys(f"{leaf.role}: {leaf.why}" for leaf in self.leaves)
            remarks += ["", "Why, rule by rule:", *reasons]
        return remarks


def _row(leaves: Sequence[LeafPlan]) -> list[str]:
    """The cells for leaves that are trained in the same way."""
    first = leaves[0]
    counts: Counter[tuple[int, int]] = Counter()
    for count, fan_in, fan_out in first.matrices:
        counts[fan_in, fan_out] += count
    matrices = [
        f"{count} of {fan_in} × {fan_out}" if count > 1 else f"{fan_in} × {fan_out}"
        for (fan_in, fan_out), count in counts.items()
    ]
    flops = [leaf.flops for leaf in leaves if leaf.matrices and leaf.flops is not None]
    return [
        range_of_paths([leaf.path for leaf in leaves]),
        "×".join(map(str, first.shape)) or "scalar",
        f"{first.role} (?)" if first.doubt else first.role,
        first.optimizer,
        ", ".join(matrices),
        _format_numbers(first.scales),
        _format_numbers(first.rates),
        _format_large(sum(flops) / 1e9) if flops else "",
    ]


def _format_large(value: float) -> str:
    """Two digits or more, and never an exponent."""
    if value < 0.001:
        return "<0.001"
    return f"{value:,.0f}" if value >= 100 else f"{value:.2g}" if value < 1 else f"{value:.3g}"


def _format_numbers(values: Iterable[float]) -> str:
    """Three digits of each distinct number."""
    return ", ".join(dict.fromkeys(f"{value:.3g}" for value in values))
