"""The examples and the benchmarks run, at their smallest; the quickstart stays short."""

import json
import os
import shutil
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

import pytest

from benchmarks.__main__ import MEASUREMENTS
from benchmarks.convergence import figures
from muon_optax.estimates._targets import NEEDED, installed

pytestmark = pytest.mark.slow

ROOT = Path(__file__).parent.parent
# What plants faults comes with an extra.
PLANTING = () if find_spec("cosmic_ray") else ("faults", "mutation")
# A process each would import JAX again, and compile again what they have in common.
TOGETHER = ("polar", "compare", "step", "train_step", "gpt", "switch", "health", "track")
TOGETHER += ("finetuning", "widths")
# And so do the compilers of accelerators; see tests/programs.
COMPILERS = [name for names in NEEDED.values() for name in names]
COMPILING = () if all(map(installed, COMPILERS)) else ("programs",)
APART = [
    n for n in MEASUREMENTS if n not in ("soak", *TOGETHER, *PLANTING, *COMPILING)
]  # see test_soak
ALL_OF = """
import importlib, sys
for name in sys.argv[1:]:
    importlib.import_module(f"benchmarks.{name}").main(smoke=True)
"""


@pytest.fixture(scope="session")
def programs(tmp_path_factory):
    """Where one script leaves what it compiled to the next, most of it the same."""
    return tmp_path_factory.mktemp("programs")


@pytest.fixture
def run(programs):
    environment = {
        # What is claimed is that they run: most of the time is XLA's, optimising.
        "JAX_DISABLE_MOST_OPTIMIZATIONS": "1",
        "JAX_COMPILATION_CACHE_DIR": str(programs),
        "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS": "0",
    }

    def run(*command):
        done = subprocess.run(
            [sys.executable, *map(str, command)],
            cwd=ROOT,
            env=os.environ | environment,
            capture_output=True,
            text=True,
            timeout=240,
        )
        assert done.returncode == 0, done.stderr[-3000:]
        return done.stdout

    return run


def flags(options):
    return [part for name, value in options.items() for part in (f"--{name}", value)]


def test_the_quickstart_learns_in_forty_lines(run):
    assert len((ROOT / "examples/quickstart.py").read_text().splitlines()) <= 40
    losses = [float(line.split()[-1]) for line in run("examples/quickstart.py").splitlines()]
    assert losses[-1] < 0.3 * losses[0]


def test_the_gpt_takes_any_method_and_size_prints_a_table_and_saves_a_picture(run, tmp_path):
    small = {"steps": 20, "width": 32, "layers": 1, "context": 32, "batch": 8}
    options = ("--method", "svd", "--seeds", 1, "--out", tmp_path)
    said = run("examples/train_gpt.py", *flags(small), *options)
    assert "AdamW (seed 1)" in said and "Muon (seed 1)" in said
    curves = json.loads((tmp_path / "curves.json").read_text())
    assert [c["optimizer"] for c in curves] == ["adamw", "muon"]
    assert all(c["loss"][-1] < c["loss"][0] for c in curves)
    assert (tmp_path / "curves.png").stat().st_size > 10_000


def test_the_digits_learn_with_convolutions_on_muon(run, tmp_path):
    said = run("examples/train_digits.py", "--epochs", "3", "--seeds", "0", "--out", tmp_path)
    accuracy = float(next(line for line in said.splitlines() if "Muon" in line).split()[-3])
    assert accuracy > 90
    assert (tmp_path / "curves.png").stat().st_size > 10_000


def test_every_figure_is_drawn_again_from_the_results(tmp_path):
    results = ROOT / "benchmarks" / "results" / "convergence"
    for path in results.glob("*.json"):
        shutil.copy(path, tmp_path)
    figures.draw(tmp_path)
    for kind in ("png", "svg"):
        drawn = {path.name for path in tmp_path.glob(f"*.{kind}")}
        assert drawn == {path.name for path in results.glob(f"*.{kind}")}
        assert drawn == {f"{name}.{kind}" for name in figures.FIGURES}


@pytest.mark.parametrize("name", APART)
def test_a_benchmark_runs_at_its_smallest(run, name):
    run("-m", "benchmarks", name, "--smoke")


def test_benchmarks_of_one_device_run_at_their_smallest(run):
    run("-c", ALL_OF, *TOGETHER)


def test_the_script_for_accelerators_refuses_a_machine_without_one(tmp_path):
    script, python = ROOT / "benchmarks/accelerator.sh", os.environ | {"PYTHON": sys.executable}
    without = python | {"JAX_PLATFORMS": "cpu"}
    done = subprocess.run(
        ["bash", script, tmp_path], env=without, capture_output=True, text=True
    )
    assert done.returncode == 1
    assert "no accelerator" in done.stderr
    assert not list(tmp_path.iterdir())
