"""The README's table: this library and the other Muons that people use.

What they offer was read from their sources: optax 0.2.8, torch 2.13.0, Keras 3.15, Dion at
0a059a4 and rollfast 1.3.0. Speed comes from the results: measured, or a compiler's estimate.
"""

import statistics
from collections.abc import Iterable

from benchmarks.record import load
from benchmarks.step import OPTAX, TORCH
from benchmarks.text import markdown

PEERS = {
    "this library": "muon",
    "`optax.contrib.muon`": OPTAX,
    "`torch.optim.Muon`": TORCH,
    "Keras' `Muon`": "",
    "Dion": "",
    "rollfast": "",
}
TWO_AXES = "2-D leaves, or your labels"
FACTS = {
    "chooses parameters": (
        "by their role; marks uncertain ones",
        TWO_AXES,
        "you pass them",
        "2-D leaves, except names you exclude",
        "you group them",
        TWO_AXES,
    ),
    "splits heads, fused kernels": ("both", "heads", "no", "no", "both", "heads"),
    "on a mesh": (
        "each matrix on one device or a team",
        "left to XLA",
        "no",
        "no",
        "each matrix on one device",
        "left to XLA",
    ),
    "orthogonalizes with": (
        "any odd degree, SVD, your method",
        "degree 5",
        "degree 5",
        "degree 5",
        "degree 5, your function",
        "degree 5, your function",
    ),
    "computes convergence bounds": ("yes", *["no"] * 5),
    "can continue a run of": ("Optax, PyTorch, AdamW", *["–"] * 5),
}


def peers_table(machine: str) -> str:
    """Features, then the time of one update over ours, on a machine and by compilers."""
    trees = load(machine, "step")["trees"].values()
    on_cpu = [{name: statistics.median(row["ms"]) for name, row in t.items()} for t in trees]
    rows = [[name, *cells] for name, cells in FACTS.items()]
    rows.append(_row("time on two CPU cores", on_cpu, "measured"))
    updates = load("programs", "programs")["updates"]
    for target, unit, device in (
        ("v5e", "estimated_cycles", "a TPU v5e"),
        ("h100", "estimated_s", "an H100"),
    ):
        found = [
            {name: row[unit] for name, row in of_model["programs"].items()}
            for of_model in updates[target].values()
        ]
        rows.append(_row(f"time on {device}", found, "estimated"))
    return markdown(["", *PEERS], rows, left=len(PEERS) + 1)


def _row(title: str, found: Iterable[dict[str, float]], how: str) -> list[str]:
    """The least and the largest ratio of every peer's time to ours."""

    def cell(name: str) -> str:
        ratios = [times[name] / times["muon"] for times in found if name in times]
        if not ratios:
            return "–"
        ends = dict.fromkeys(f"{end(ratios):.1f}" for end in (min, max))
        return "1" if name == "muon" else f"{how}: {' to '.join(ends)}"

    return [title, *map(cell, PEERS.values())]


TABLES = {"peers": peers_table}
