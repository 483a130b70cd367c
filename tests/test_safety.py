"""What is loaded is never run, a string is no code, and what CI takes from others is pinned."""

import ast
import pickle
import re
import time
import tomllib
from pathlib import Path
from types import SimpleNamespace

import jax.numpy as jnp
import numpy as np
import pytest
import yaml
from checkpoints import keep
from curves import Curve
from mesh import make_mesh
from train_gpt import Config

from benchmarks import record, store
from benchmarks.convergence import momenta
from benchmarks.polar import matrices
from muon_optax import NewtonSchulz, muon, scale_by_shape
from muon_optax.dims import Rule, resolve

ROOT = Path(__file__).parent.parent
FILES = {
    str(path.relative_to(ROOT)): path
    for folder in ("muon_optax", "examples", "benchmarks")
    for path in sorted((ROOT / folder).rglob("*.py"))
}
RUN_WHAT_THEY_LOAD = ("_pickle", "cloudpickle", "dill", "joblib", "marshal", "pickle", "shelve")
RUN_THEIR_ARGUMENT = ("__import__", "eval", "exec", "os.popen", "os.system")
RUN_THEIR_ARGUMENT += ("yaml.full_load", "yaml.load", "yaml.unsafe_load")


def runs_data(source):
    """Every name in a source by which data can become code."""
    tree = ast.parse(source)
    full, given = {}, {}  # local name → full name; function called → its keywords
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            full |= {alias.asname: alias.name for alias in node.names if alias.asname}
            roots = {alias.name.split(".")[0] for alias in node.names}
            yield from roots.intersection(RUN_WHAT_THEY_LOAD)
        elif isinstance(node, ast.ImportFrom):
            names = {alias.asname or alias.name: alias.name for alias in node.names}
            full |= {here: f"{node.module}.{there}" for here, there in names.items()}
            root = str(node.module).split(".")[0]
            yield from {root}.intersection(RUN_WHAT_THEY_LOAD)
        elif isinstance(node, ast.Call):
            given[node.func] = {k.arg: ast.unparse(k.value) for k in node.keywords}
    for node in ast.walk(tree):
        if isinstance(node, ast.Name | ast.Attribute):
            head, dot, rest = ast.unparse(node).partition(".")
            name = full.get(head, head) + dot + rest
            safe = given.get(node, {}).get("weights_only") == "True"
            if name in RUN_THEIR_ARGUMENT or (name == "torch.load" and not safe):
                yield name
        elif isinstance(node, ast.keyword) and ast.unparse(node.value) != "False":
            yield from {str(node.arg)} & {"allow_pickle", "shell"}


@pytest.mark.parametrize("name", FILES)
def test_no_file_runs_what_it_loads(name):
    assert not list(runs_data(FILES[name].read_text()))


@pytest.mark.parametrize(
    ("source", "expected"),
    [
        ("import pickle", "pickle"),
        ("import json, dill as d", "dill"),
        ("def f():\n    from marshal import loads", "marshal"),
        ("x = eval('1')", "eval"),
        ("map(exec, lines)", "exec"),
        ("import os as o\no.system('x')", "os.system"),
        ("from os import system as run\nrun('x')", "os.system"),
        ("import subprocess\nsubprocess.run('x', shell=True)", "shell"),
        ("np.load(path, allow_pickle=True)", "allow_pickle"),
        ("np.load(path, allow_pickle=trusted)", "allow_pickle"),
        ("import yaml\nyaml.load(text, Loader=L)", "yaml.load"),
        ("import torch\ntorch.load(path)", "torch.load"),
        ("from torch import load\nload(path, weights_only=False)", "torch.load"),
    ],
)
def test_a_planted_line_is_found(source, expected):
    assert list(runs_data(source)) == [expected]


@pytest.mark.parametrize(
    "source",
    [
        "import torch\ntorch.load(path, weights_only=True)",
        "np.load(path)['x'], np.load(path, allow_pickle=False), json.loads(text)",
        "import yaml\nyaml.safe_load(text)",
        "model.eval(), lowered.compile(), chain.exec",
    ],
)
def test_what_runs_nothing_is_let_pass(source):
    assert not list(runs_data(source))


@pytest.fixture
def trap(tmp_path):
    """A file that exists once `payload` was run."""
    return SimpleNamespace(file=tmp_path / "was_run", payload=pickle.dumps(_Touch(tmp_path)))


class _Touch:
    def __init__(self, folder):
        self.folder = folder

    def __reduce__(self):
        return Path.touch, (self.folder / "was_run",)


def test_the_trap_works_where_a_payload_is_run(trap):
    pickle.loads(trap.payload)
    assert trap.file.exists()


def test_a_payload_for_a_result_is_refused(trap, tmp_path, monkeypatch):
    monkeypatch.setattr(record, "RESULTS", tmp_path)
    monkeypatch.setenv(store.FOLDER, str(tmp_path))
    record.save("step", {}, {}, tmp_path / "machine").write_bytes(trap.payload)
    with pytest.raises(ValueError, match="decode"):
        record.load("machine", "step")
    store.remembered({"a": 1}, lambda: 2)
    (kept,) = tmp_path.glob("*.json")
    kept.write_bytes(trap.payload)
    with pytest.raises(ValueError, match="decode"):
        store.remembered({"a": 1}, lambda: 2)
    assert not trap.file.exists()


@pytest.mark.parametrize("inside", [False, True], ids=["the file", "an array of it"])
def test_a_payload_for_captured_momenta_is_refused(trap, tmp_path, monkeypatch, inside):
    path = tmp_path / "momenta.npz"
    path.write_bytes(trap.payload)
    if inside:
        np.savez(path, momenta=np.array([_Touch(tmp_path)], dtype=object))
    monkeypatch.setattr(matrices, "CAPTURED", path)
    for load in (lambda: momenta.captured(path), lambda: matrices.captured(1, 2, 2, None)):
        with pytest.raises(ValueError, match="allow_pickle"):
            load()
    assert not trap.file.exists()


@pytest.fixture
def run():
    """What `examples/checkpoints.py` keeps of a training run."""
    params = {"w": jnp.ones((4, 8)), "b": jnp.ones(8)}
    state = muon(0.1).init(params)
    rng = np.random.default_rng(0)
    curve = Curve("muon", 0.04, 0, step=[1], seconds=[1.0], loss=[1.0])
    return SimpleNamespace(config=Config(), curve=curve, params=params, state=state, rng=rng)


# What Python reads of a checkpoint before TensorStore, in C++, reads the arrays.
@pytest.mark.parametrize("name", ["record/metadata", "arrays/_METADATA"])
def test_a_payload_for_the_record_of_a_checkpoint_is_refused(trap, tmp_path, run, name):
    (checkpoints,) = keep(tmp_path / "kept", [run])
    checkpoints.save()
    checkpoints.close()
    (checkpoints.folder / "1" / name).write_bytes(trap.payload)
    with pytest.raises(ValueError, match="decode"):
        keep(tmp_path / "kept", [run])
    assert not trap.file.exists()


LONG = 100_000
# Each is wrong in every place that takes a string.
HOSTILE = {
    "an import": "__import__('pathlib').Path({trap!r}).touch()",
    "a call in a size": "in out[q=open({trap!r},'w')]",
    "a comment behind": "in out #\nopen({trap!r},'w')",
    "a shell's command": "in out; $(touch {trap})",
    "empty braces": "in out[q={{}}]",
    "a format's attribute": "in {{0.__class__.__init__.__globals__}} out",
    "a format of percent": "in %(x)999999999d out",
    "a path": "../../../etc/passwd",
    "a zero byte": "in\0 out",
    "half a character": "in \udc80 out",
    "deep nesting": "(" * LONG + "in out" + ")" * LONG,
    "nested parts": "in out" + "[q" * LONG,
    "one long name": "a" * LONG,
    "spaces": "in" + " " * LONG + "out ,",
    "lines": "in" + "\n" * LONG + "out ,",
    "a huge number": "in out=" + "9" * LONG,
    "a digit that is no number": "in out=²",
    "equals signs": "in" + "=" * LONG,
    "dots": "..." * LONG,
    "sizes that end in no number": "in out" + " a=1" * LONG + " a=",
}
# What takes a string, and how its error says which one is wrong.
TAKE_A_STRING = {
    "a tree of specs": (lambda text: resolve({"w": text}, {"w": jnp.ones((4, 4))}), "leaf 'w'"),
    "muon": (
        lambda text: muon(1.0, dims={"w": text}).init({"w": jnp.ones((4, 4))}),
        "leaf 'w'",
    ),
    "a rule": (lambda text: Rule("mine", "w", text), "rule 'mine'"),
    "a family": (NewtonSchulz, "unknown family"),
    "a normalisation": (lambda text: NewtonSchulz(normalize=text), "normalize="),
    "a scaling": (scale_by_shape, "unknown shape scaling"),
    "a mesh": (make_mesh, "mesh="),
}


@pytest.mark.parametrize("text", HOSTILE)
@pytest.mark.parametrize("place", TAKE_A_STRING)
def test_a_hostile_string_is_refused_at_once_and_not_run(trap, place, text):
    take, named = TAKE_A_STRING[place]
    given = HOSTILE[text].format(trap=str(trap.file))
    begin = time.process_time()
    with pytest.raises(ValueError, match=named):
        take(given)
    # 10⁵ words take up to two seconds; what tries every way to read them, 10⁵ times as long.
    assert time.process_time() - begin < 20
    assert not trap.file.exists()


WORKFLOWS = {path.name: path for path in (ROOT / ".github" / "workflows").iterdir()}
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]


@pytest.mark.parametrize("name", WORKFLOWS)
def test_every_action_is_pinned_to_a_commit_and_may_only_read(name):
    text = WORKFLOWS[name].read_text()
    workflow = yaml.safe_load(text)
    used = [
        step["uses"]
        for job in workflow["jobs"].values()
        for step in job["steps"]
        if "uses" in step
    ]
    assert used and len(used) == text.count("uses:")
    assert all(re.fullmatch(r"[\w-]+/[\w-]+@[0-9a-f]{40}", action) for action in used)
    assert workflow["permissions"] == {"contents": "read"}
    assert not any("permissions" in job for job in workflow["jobs"].values())


def test_the_oldest_versions_are_the_lower_bounds():
    lines = (ROOT / ".ci" / "oldest.txt").read_text().splitlines()
    oldest = dict(line.split("==") for line in lines if not line.startswith("#"))
    bounds = [PROJECT["dependencies"], *PROJECT["optional-dependencies"].values()]
    lowest = dict(b.split(">=") for group in bounds for b in group if ">=" in b)
    assert oldest.pop("jaxlib") == oldest["jax"]
    assert oldest.items() <= lowest.items()
    assert {b.split(">=")[0] for b in PROJECT["dependencies"]} <= {*oldest}


def test_ci_runs_both_ends_of_what_is_supported():
    (matrix,) = [
        job["strategy"]["matrix"]["include"]
        for job in yaml.safe_load(WORKFLOWS["ci.yml"].read_text())["jobs"].values()
        if "strategy" in job
    ]
    pythons = [c.split()[-1] for c in PROJECT["classifiers"] if re.search(r":: 3\.\d+$", c)]
    least = PROJECT["requires-python"].removeprefix(">=")
    assert least == pythons[0]
    combinations = {(entry["python"], entry["constraints"]) for entry in matrix}
    assert combinations == {(least, ".ci/oldest.txt"), *((p, "/dev/null") for p in pythons)}
