"""Newton-Schulz against SVD and the others: accuracy, time, memory, and compile time.

`python -m benchmarks polar` says what it will take before it starts, can be stopped at any
time, and goes on where it stopped, as long as the commit is the same. Results are kept as they
come. `--only PATTERN` prints the rows whose label matches, and keeps nothing.
"""

import json
import re
from dataclasses import asdict, replace

from rich.progress import (
    BarColumn,
    Progress,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)

from benchmarks import store
from benchmarks.peak import rate
from benchmarks.polar.group import Group, measure
from benchmarks.polar.studies import SMOKE, planned, work
from benchmarks.record import folder, provenance, save

COLUMNS = ("ms", "share_of_peak", "error", "band", "alignment", "orthogonality")


def main(smoke: bool = False, only: str = "") -> None:
    """Measure every study; keep the results."""
    if smoke:
        return show(measure(SMOKE))
    studies = planned()
    if only:
        for group in [g for groups in studies.values() for g in groups]:
            if chosen := _matching(group, only):
                show(measure(chosen))
        return
    made_by = provenance()
    for rows in progress(studies, made_by):
        path = save("polar", made_by, rows)
    print(path)


def progress(studies: dict[str, list[Group]], made_by: dict):
    """The rows of every study so far, after each group."""
    rates = {dtype: rate(dtype) for dtype in ("float32", "bfloat16")}
    flops = {name: sum(map(work, groups)) for name, groups in studies.items()}
    minutes = sum(flops.values()) / rates["float32"] / 60
    print(f"about {minutes:.0f} minutes, less what is done already")
    rows = {"peak_flops": rates} | {name: [] for name in studies}
    columns = (TextColumn("{task.description}"), BarColumn(), TimeElapsedColumn())
    with Progress(*columns, TimeRemainingColumn()) as bar:
        task = bar.add_task("polar", total=sum(flops.values()))
        for name, groups in studies.items():
            for group in groups:
                bar.update(task, description=f"{name}: {group.m}×{group.n} {group.dtype}")
                rows[name] += _remembered(name, group, made_by)
                bar.advance(task, work(group))
                yield rows


def show(rows: list[dict]) -> None:
    """One line a row."""
    for row in rows:
        label = _label(row["contender"], row)
        print(label, json.dumps({name: row.get(name) for name in COLUMNS}))


def _remembered(study: str, group: Group, made_by: dict) -> list[dict]:
    key = {"study": study, "group": asdict(group), "machine": folder().name}
    key |= {name: made_by[name] for name in ("jax", "jaxlib", "optax", "commit")}
    return store.remembered(key, lambda: measure(group))


def _matching(group: Group, pattern: str) -> Group | None:
    """The group with those contenders whose label matches."""
    names = [c for c in group.contenders if re.search(pattern, _label(c, asdict(group)))]
    return replace(group, contenders=tuple(names)) if names else None


def _label(contender: str, of: dict) -> str:
    return f"{contender} | {of['count']}×{of['m']}×{of['n']} {of['dtype']}"
