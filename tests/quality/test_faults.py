"""Faults planted in a copy of the package: the named tests must fail with each of them."""

import shutil
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
FAULTS = tomllib.loads(Path(__file__).with_name("faults.toml").read_text())["fault"]


@pytest.mark.parametrize("fault", FAULTS, ids=lambda fault: fault["name"])
def test_a_fault_is_seen(fault, tmp_path):
    for folder in ("muon_optax", "tests"):
        shutil.copytree(ROOT / folder, tmp_path / folder)
    shutil.copy(ROOT / "pyproject.toml", tmp_path)
    files = [
        path
        for path in tmp_path.glob("muon_optax/**/*.py")
        if fault["before"] in path.read_text()
    ]
    assert len(files) == 1, (
        f"{fault['before']!r} occurs in {len(files)} files; edit faults.toml"
    )
    text = files[0].read_text()
    assert text.count(fault["before"]) == 1
    files[0].write_text(text.replace(fault["before"], fault["after"]))
    command = [sys.executable, "-m", "pytest", "-x", "-q", f"tests/{fault['tests']}"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True)
    assert done.returncode == pytest.ExitCode.TESTS_FAILED, done.stdout[-2000:]
