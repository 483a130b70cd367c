"""The examples and the benchmarks run, at their smallest; the quickstart stays short."""

import io
import json
import os
import re
import shutil
import subprocess
import sys
import time
import tomllib
from importlib.util import find_spec
from pathlib import Path

import pytest
from install import stage, total
from progress import Progress

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


@pytest.fixture(scope="session")
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


def dashed(options):
    return flags({name.replace("_", "-"): value for name, value in options.items()})


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
    assert "AdamW, two rates (seed 1)" in said and "Muon (seed 1)" in said
    curves = json.loads((tmp_path / "curves.json").read_text())
    assert [c["optimizer"] for c in curves] == ["adamw_two", "muon"]
    assert all(c["loss"][-1] < c["loss"][0] for c in curves)
    assert (tmp_path / "curves.png").stat().st_size > 10_000


TINY = {"eval_every": 10, "steps": 20, "width": 32, "layers": 1, "context": 32, "batch": 8}
DEMO = """
import pathlib, sys
sys.path.insert(0, "examples")
import demo
from dataclasses import replace
demo.main(replace(demo.CONFIG, **{tiny}, out=pathlib.Path("{out}")))
"""


@pytest.fixture(scope="session")
def demo(run, tmp_path_factory):
    """What the demo prints at its smallest, and where it leaves the picture."""
    out = tmp_path_factory.mktemp("demo")
    return run("-c", DEMO.format(tiny=TINY, out=out)), out


def test_the_demo_compares_with_adamw_at_two_rates_and_says_where_the_picture_is(demo):
    said, out = demo
    assert "AdamW, two rates   0.002 for weight matrices, 0.008 for the rest" in said
    assert "Muon               0.04 for weight matrices, AdamW at 0.008 for the rest" in said
    assert "Final loss of AdamW, two rates (seed 0): Muon " in said
    assert "one seed" in said and f"Plot: {out}/curves.png\n" in said
    assert (out / "curves.png").stat().st_size > 10_000


def test_the_demo_prints_plain_lines_into_a_pipe(demo):
    said, _ = demo
    stages = re.findall(r"^ +\d+ s  ([^,\n]+)", said, re.MULTILINE)
    assert [*dict.fromkeys(stages)] == ["compiling AdamW", "compiling Muon", "training"]
    assert all(character.isprintable() for character in said.replace("\n", ""))


def test_the_commands_that_the_demo_proposes_run(demo, run, tmp_path):
    proposed = demo[0].partition("What to try next:")[2].splitlines()
    commands = [line.split()[1:] for line in proposed if re.match(r"  \S", line)]
    smaller = {"--out": ("--out", tmp_path), "build/bench": (), "768x3072": ("8x16",)}
    smaller["examples/train_gpt.py"] = ("examples/train_gpt.py", *dashed(TINY))
    assert len(commands) == 3
    for command in commands:
        run(*[part for word in command for part in smaller.get(word, (word,))])


class Terminal(io.StringIO):
    def isatty(self):
        return True


def test_a_bar_is_one_line_on_a_terminal_and_gone_when_it_is_done(monkeypatch):
    monkeypatch.setenv("TERM", "xterm")
    with Progress(stream := Terminal()) as progress:
        progress.show("half", 0.5)
    assert "[############............] half" in stream.getvalue()
    assert "\n" not in stream.getvalue() and stream.getvalue().endswith("\r\x1b[K")


def test_a_silent_job_goes_on_to_be_shown_in_a_file():
    with Progress(stream := io.StringIO(), quiet=0.1) as progress:
        progress.show("waiting")
        time.sleep(1.2)
    lines = stream.getvalue().splitlines()
    assert len(lines) >= 2 and all(re.fullmatch(r" +\d+ s  waiting", line) for line in lines)


def test_what_pip_prints_is_said_in_words():
    wheel = "Downloading jaxlib-0.10.2-cp311-cp311-manylinux_2_27_x86_64.whl (85.4 MB)"
    assert stage(wheel) == "downloading, now jaxlib (85.4 MB)"
    assert stage("Collecting jax>=0.7.1 (from muon-optax)") == "downloading, now jax"
    assert stage("Requirement already satisfied: numpy>=2 in x") == "downloading, now numpy"
    assert stage("Building editable for muon-optax: started") is None
    assert total("Installing collected packages: a, b, c") == 3


def test_an_installation_that_fails_shows_what_pip_said():
    command = [sys.executable, "examples/install.py", "--no-index", "no-such-package"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 1 and "starting pip" in done.stdout
    assert "No matching distribution" in done.stderr and "pip failed: " in done.stderr


def test_make_demo_says_first_what_it_does_how_long_and_what_it_installs():
    said = subprocess.run(
        ["make", "--dry-run", "demo"], cwd=ROOT, capture_output=True, text=True, check=True
    ).stdout
    first = said[: said.index("\n\n")]
    extras = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    names = extras["dependencies"] + extras["optional-dependencies"]["demo"]
    names += extras["optional-dependencies"]["compare"]
    assert all(re.split(r"[>=]", name)[0] in first for name in names if "muon" not in name)
    assert "minutes" in first and "MB" in first


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
