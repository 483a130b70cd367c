"""Result files and the provenance of their numbers: device, versions, commit, command."""

import json
import os
import platform
import re
import shutil
import subprocess
import sys
from datetime import UTC, datetime
from importlib.metadata import version
from importlib.util import find_spec
from pathlib import Path

import jax

from muon_optax.comparison._machine import describe_processor

ROOT = Path(__file__).resolve().parent.parent
RESULTS = ROOT / "benchmarks" / "results"
PACKAGES = ("jax", "jaxlib", "optax", "flax", "numpy", "torch")


def provenance() -> dict[str, str | int]:
    """Device, cores, versions, commit, command and date of this process."""
    return {
        "device": jax.devices()[0].device_kind,
        "processor": describe_processor(),
        "cores": os.cpu_count() or 1,
        **{name: version(name) for name in PACKAGES if find_spec(name)},
        "python": platform.python_version(),
        "xla_flags": os.environ.get("XLA_FLAGS", ""),
        "commit": commit(),
        "command": " ".join([_program(), *sys.argv[1:]]),
        "date": datetime.now(UTC).date().isoformat(),
    }


def commit() -> str:
    """The commit, with `-dirty` if tracked files other than results differ; "" without git."""
    if not shutil.which("git"):
        return ""
    git = ["git", "-C", str(ROOT)]
    head = subprocess.run(
        [*git, "rev-parse", "--short=10", "HEAD"], capture_output=True, text=True
    )
    code = [*git, "diff", "--quiet", "HEAD", "--", ".", ":!benchmarks/results"]
    dirty = head.returncode == 0 and subprocess.run(code).returncode
    return head.stdout.strip() + ("-dirty" if dirty else "")


def folder() -> Path:
    """`benchmarks/results/<machine>`, named after the device and the cores."""
    kind = re.sub(r"\W+", "-", jax.devices()[0].device_kind.lower())
    return RESULTS / f"{kind}-{os.cpu_count()}-cores"


def save(name: str, made_by: dict, measured: dict, where: Path | None = None) -> Path:
    """Write one measurement under its provenance, taken when it began; returns the file."""
    path = (where or folder()) / f"{name}.json"
    path.parent.mkdir(parents=True, exist_ok=True)
    text = json.dumps({"provenance": made_by, **measured}, indent=1)
    # A list of numbers on one line: a file that a person can read.
    flat = re.sub(r"\[[^\[\]{}]*\]", lambda found: " ".join(found[0].split()), text)
    path.write_text(flat + "\n")
    return path


def load(machine: str, name: str, command: str = "") -> dict:
    """What `save` wrote on a machine; the command that measures it, unless it has that name."""
    path = RESULTS / machine / f"{name}.json"
    if not path.exists():
        known = sorted(other.parent.name for other in RESULTS.glob(f"*/{name}.json"))
        raise FileNotFoundError(
            f"benchmarks/results/{machine}/{name}.json does not exist; run "
            f"`python -m benchmarks {command or name}` on that machine, or use one of {known}"
        )
    return json.loads(path.read_text())


def _program() -> str:
    """`python -m PACKAGE` of this process, or its script."""
    spec = sys.modules["__main__"].__spec__
    return f"python -m {spec.parent}" if spec else sys.argv[0]
