"""Knows how a plan is shown: a line for all leaves that are treated alike."""

import html
import math
import re
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass


@dataclass(frozen=True)
class LeafPlan:
    """How one parameter is trained.

    Attributes:
      path: Such as `"layers/0/mlp/kernel"`.
      shape: Its own.
      optimizer: `"Muon"` or `"fallback"`.
      role: What it is, in the words of the rule that decided.
      why: The rule's number in `dims` and its pattern, or the spec.
      matrices: `(how many, fan_in, fan_out)`, once for each part of a fused leaf; none for the
        fallback.
      scales: The factor of the shape, for each of them.
      rates: Learning rate times factor, for each of them, the fallback's own rate for its
        leaves; empty where `plan` got none.
      flops: Of the polar factors in a step, None where the method does not tell.
      doubt: What speaks against the treatment; None where nothing does.
    """

    path: str
    shape: tuple[int, ...]
    optimizer: str
    role: str
    why: str
    matrices: tuple[tuple[int, int, int], ...]
    scales: tuple[float, ...]
    rates: tuple[float, ...]
    flops: int | None
    doubt: str | None

    @property
    def size(self) -> int:
        """How many numbers it has."""
        return math.prod(self.shape)


@dataclass(frozen=True)
class Plan:
    """Who is trained how; `print` it, or let a notebook show it.

    Layers that are treated alike share a line.

    A line is that of one leaf, `{0..11}` stands for as many; GFLOP are those of all of them in
    a step. `rate` has the factor `scale` in it; `(?)` marks a doubt.

    Attributes:
      leaves: One for each parameter, in the order of `jax.tree.leaves`.
      unused: What is to be said of rules that decide no leaf.

    Example:
      >>> import jax.numpy as jnp
      >>> from muon_optax import plan
      >>> for leaf in plan({"kernel": jnp.ones((64, 256)), "bias": jnp.ones(256)}).leaves:
      ...     print(leaf.path, leaf.role, leaf.matrices, leaf.scales)
      bias bias or gain () ()
      kernel matrix ((1, 64, 256),) (2.0,)
    """

    leaves: tuple[LeafPlan, ...]
    unused: tuple[str, ...] = ()

    @property
    def doubts(self) -> tuple[LeafPlan, ...]:
        """The leaves whose treatment is doubtful."""
        return tuple(leaf for leaf in self.leaves if leaf.doubt)

    def __str__(self) -> str:
        columns, rows = self._table()
        widths = [max(map(len, column)) for column in zip(columns, *rows)]
        lines = [columns, ["-" * width for width in widths], *rows]
        table = ["  ".join(map(str.ljust, line, widths)).rstrip() for line in lines]
        return "\n".join([*table, "", *self._remarks()])

    def _repr_html_(self) -> str:
        columns, rows = self._table()

        def line(tag: str, cells: Iterable[str]) -> str:
            return "".join(f"<{tag}>{html.escape(cell)}</{tag}>" for cell in cells)

        body = "".join(f"<tr>{line('td', row)}</tr>" for row in rows)
        remarks = "".join(f"<p>{html.escape(text)}</p>" for text in self._remarks() if text)
        return f"<table><tr>{line('th', columns)}</tr>{body}</table>{remarks}"

    def _table(self) -> tuple[list[str], list[list[str]]]:
        columns = [
            "leaf",
            "shape",
            "role",
            "optimizer",
            "fan_in × fan_out",
            "scale",
            "rate",
            "GFLOP",
        ]
        groups: dict[tuple, list[LeafPlan]] = {}
        for leaf in self.leaves:
            alike = re.sub(r"\d+", "#", leaf.path), leaf.shape, leaf.role, leaf.why, leaf.doubt
            groups.setdefault(alike, []).append(leaf)
        return columns, [_row(some) for of in groups.values() for some in _complete(of)]

    def _remarks(self) -> list[str]:
        whys = dict.fromkeys(f"{leaf.role}: {leaf.why}" for leaf in self.leaves)
        muon = [leaf for leaf in self.leaves if leaf.matrices]
        count = sum(count for leaf in muon for count, _, _ in leaf.matrices)
        trained, total = (sum(leaf.size for leaf in of) for of in (muon, self.leaves))
        noun = "matrix" if count == 1 else "matrices"
        said = f"Muon trains {trained:,} of {total:,} parameters: {count:,} {noun}."
        doubts = [f"doubtful: {leaf.path}: {leaf.doubt}" for leaf in self.doubts]
        return [said, *doubts, *self.unused, "", "Why, rule by rule:", *whys]


def _row(leaves: Sequence[LeafPlan]) -> list[str]:
    """The cells of leaves that are treated alike."""
    first = leaves[0]
    sides = Counter(first.matrices)
    matrices = [
        f"{n * batch} of {rows} × {columns}" if n * batch > 1 else f"{rows} × {columns}"
        for (batch, rows, columns), n in sides.items()
    ]
    flops = [leaf.flops for leaf in leaves if leaf.matrices and leaf.flops is not None]
    return [
        _span([leaf.path for leaf in leaves]),
        "×".join(map(str, first.shape)) or "scalar",
        first.role + " (?)" * bool(first.doubt),
        first.optimizer,
        ", ".join(matrices),
        _numbers(first.scales),
        _numbers(first.rates),
        _thousands(sum(flops) / 1e9) if flops else "",
    ]


def _span(paths: Sequence[str]) -> str:
    """`layers/{0..3}/kernel` for paths that differ in their numbers only."""
    columns = [sorted({*column}, key=int) for column in zip(*_numbers_of(paths))]
    spans = map(_range, columns)
    return re.sub(r"\d+", lambda _: next(spans), paths[0])


def _range(numbers: Sequence[str]) -> str:
    if len(numbers) == 1:
        return numbers[0]
    consecutive = int(numbers[-1]) - int(numbers[0]) + 1 == len(numbers)
    span = f"{numbers[0]}..{numbers[-1]}" if consecutive else ",".join(numbers)
    return f"{{{span}}}"


def _numbers_of(paths: Sequence[str]) -> list[list[str]]:
    return [re.findall(r"\d+", path) for path in paths]


def _complete(leaves: Sequence[LeafPlan]) -> list[Sequence[LeafPlan]]:
    """The leaves as one group, if a path with ranges stands for them all and no other."""
    columns = [{*column} for column in zip(*_numbers_of([leaf.path for leaf in leaves]))]
    every = math.prod(map(len, columns)) == len(leaves)
    return [leaves] if every else [[leaf] for leaf in leaves]


def _thousands(value: float) -> str:
    return f"{value:,.0f}" if value >= 100 else f"{value:.3g}"


def _numbers(values: Iterable[float]) -> str:
    return ", ".join(dict.fromkeys(f"{value:.3g}" for value in values))
