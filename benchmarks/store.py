"""Finished runs, one small file each, so that a stopped benchmark can continue."""

import hashlib
import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

from benchmarks.record import ROOT, commit

FOLDER = "BENCHMARK_RUNS"  # the environment variable that moves the files; workers inherit it
IMPORTED = commit()  # the code that computes in this process
COMMITS: set[str] = set()  # at which the values that this process has seen were computed


def folder() -> Path:
    """Where the files are."""
    return Path(os.environ.get(FOLDER, ROOT / "build" / "benchmarks"))


def remembered(key: dict[str, Any], compute: Callable[[], Any]) -> Any:
    """What `compute` returned for this key, now or in an earlier process."""
    path = _path(key)
    if not path.exists():
        record = {"key": key, "commit": IMPORTED, "value": compute()}
        path.parent.mkdir(parents=True, exist_ok=True)
        part = path.with_suffix(".part")
        part.write_text(json.dumps(record))
        part.replace(path)  # whole or not at all
    record = json.loads(path.read_text())
    COMMITS.add(record["commit"])
    return record["value"]


def is_done(key: dict[str, Any]) -> bool:
    """Whether `remembered` has it already."""
    return _path(key).exists()


def _path(key: dict[str, Any]) -> Path:
    name = hashlib.sha256(json.dumps(key, sort_keys=True).encode()).hexdigest()[:20]
    return folder() / f"{name}.json"
