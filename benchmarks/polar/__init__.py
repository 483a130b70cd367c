"""Newton-Schulz against SVD and the others: accuracy, time, memory, and compile time.

`python -m benchmarks polar` says what it will take before it starts, can be stopped at any
time, and goes on where it stopped, at the same commit and a clean tree. Results are kept as
they come. `--only PATTERN` prints the rows whose label matches, and keeps nothing.
"""

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
from benchmarks.polar.studies import OURS, SMOKE, planned, seconds_of
from benchmarks.polar.tables import case_tables
from benchmarks.record import folder, provenance, save


def main(smoke: bool = False, only: str = "") -> None:
    """Measure every study; keep the results."""
    if smoke:
        return print(case_tables(measure(SMOKE)))
    if only:
        return show(only)
    made_by = provenance()
    for rows in progress(planned(), made_by):
        path = save("polar", made_by, rows)
    print(path)


def show(pattern: str) -> None:
    """Measure the rows whose label matches, next to Newton-Schulz, and print them."""
    groups = [group for groups in planned().values() for group in groups]
    chosen = [group for group in (_matching(g, pattern) for g in groups) if group]
    if not chosen:
        names = dict.fromkeys(name for group in groups for name in group.contenders)
        cases = dict.fromkeys(_label("svd", group) for group in groups)
        raise SystemExit(
            f"no label matches {pattern!r}; contenders are {', '.join(names)}; "
            f"labels of one are {', '.join(cases)}"
        )
    for group in dict.fromkeys(chosen):
        print(case_tables(measure(group)), "\n")


def progress(studies: dict[str, list[Group]], made_by: dict):
    """The rows of every study so far, after each group."""
    peak = rate("float32")
    todo = [
        (study, group, seconds_of(group, peak), _key(study, group, made_by))
        for study, groups in studies.items()
        for group in groups
    ]
    seconds = sum(s for *_, s, key in todo if not store.is_done(key))
    done = sum(store.is_done(key) for *_, key in todo)
    print(f"{done} of {len(todo)} groups are done; the rest takes about {seconds / 60:.0f} min")
    rows = {study: [] for study in studies}
    columns = (TextColumn("{task.description}"), BarColumn(), TimeElapsedColumn())
    with Progress(*columns, TimeRemainingColumn()) as bar:
        task = bar.add_task("polar", total=sum(s for *_, s, _ in todo))
        for study, group, s, key in todo:
            bar.update(task, description=f"{study}: {group.m}×{group.n} {group.dtype}")
            rows[study] += _remembered(group, key)
            bar.advance(task, s)
            yield rows


def _key(study: str, group: Group, made_by: dict) -> dict:
    fixed = {name: made_by[name] for name in ("jax", "jaxlib", "optax", "commit", "xla_flags")}
    return {"study": study, "group": asdict(group), "machine": folder().name} | fixed


def _remembered(group: Group, key: dict) -> list[dict]:
    if not key["commit"] or key["commit"].endswith("-dirty"):
        return measure(group)  # who knows whether the code is still the same
    return store.remembered(key, lambda: measure(group))


def _matching(group: Group, pattern: str) -> Group | None:
    """The group with Newton-Schulz and those contenders whose label matches."""
    found = [name for name in group.contenders if re.search(pattern, _label(name, group))]
    return replace(group, contenders=tuple(dict.fromkeys([OURS, *found]))) if found else None


def _label(contender: str, group: Group) -> str:
    return f"{contender} on {group.count}×{group.m}×{group.n} {group.dtype}"
