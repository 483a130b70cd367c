"""Loaded files and strings are never run as code, and CI's dependencies are pinned.

The linter refuses pickle, eval, exec and shells in the sources.
"""

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


def spec(text):
    return resolve({"w": text}, {"w": jnp.ones((4, 4))})


LONG = 100_000
CALL = "__import__('pathlib').Path({trap!r}).touch()"
# A function that takes a string, a hostile string, and how the error names the argument.
HOSTILE = {
    "a call": (spec, CALL, "leaf 'w'"),
    "a call in a size": (spec, "in out[q=open({trap!r},'w')]", "leaf 'w'"),
    "attributes of a format": (spec, "in {{0.__class__.__init__.__globals__}} out", "leaf 'w'"),
    "a shell's command": (spec, "in out; $(touch {trap})", "leaf 'w'"),
    "half a character": (spec, "in \udc80 out", "leaf 'w'"),
    "deep nesting": (spec, "(" * LONG + "in out" + ")" * LONG, "leaf 'w'"),
    "a huge number": (spec, "in out=" + "9" * LONG, "leaf 'w'"),
    "many sizes": (spec, "in out" + " a=1" * LONG + " a=", "leaf 'w'"),
    "muon": (lambda text: muon(1.0, dims={"w": text}).init({"w": jnp.ones(4)}), CALL, "'w'"),
    "a rule": (lambda text: Rule("mine", "w", text), CALL, "rule 'mine'"),
    "a family": (NewtonSchulz, CALL, "unknown family"),
    "a normalisation": (lambda text: NewtonSchulz(normalize=text), CALL, "normalize="),
    "a scaling": (scale_by_shape, CALL, "shape_scaling="),
    "a mesh": (make_mesh, CALL, "mesh="),
}


@pytest.mark.parametrize("kind", HOSTILE)
def test_a_hostile_string_is_refused_quickly_and_not_run(trap, kind):
    take, text, message = HOSTILE[kind]
    begin = time.process_time()
    with pytest.raises(ValueError, match=message):
        take(text.format(trap=str(trap.file)))
    # 10⁵ words take up to two seconds; a quadratic parser would take 10⁵ times as long.
    assert time.process_time() - begin < 20
    assert not trap.file.exists()


WORKFLOWS = {path.name: path for path in (ROOT / ".github" / "workflows").iterdir()}
# What a job may do but read: publish says who it is, and runs nothing of the repository.
ALLOWED = {
    "release.yml": {"publish": {"id-token": "write"}},
    "docs.yml": {"publish": {"pages": "write", "id-token": "write"}},
}
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
    allowed = {k: j["permissions"] for k, j in workflow["jobs"].items() if "permissions" in j}
    assert allowed == ALLOWED.get(name, {})


def test_what_is_published_was_built_once_and_tried_and_no_step_has_a_token():
    text = WORKFLOWS["release.yml"].read_text()
    jobs = yaml.safe_load(text)["jobs"]
    assert [(name, job.get("needs")) for name, job in jobs.items()] == [
        *(("build", None), ("try", "build"), ("publish", "try"))
    ]
    assert not any("run" in step for step in jobs["publish"]["steps"])
    assert "secrets" not in text and "password" not in text


def test_the_oldest_versions_are_the_lower_bounds():
    lines = (ROOT / ".ci" / "oldest.txt").read_text().splitlines()
    oldest = dict(line.split("==") for line in lines if not line.startswith("#"))
    bounds = [PROJECT["dependencies"], *PROJECT["optional-dependencies"].values()]
    lowest = dict(b.split(">=") for group in bounds for b in group if ">=" in b)
    assert oldest.pop("jaxlib") == oldest["jax"]
    assert oldest.items() <= lowest.items()
    assert {b.split(">=")[0] for b in PROJECT["dependencies"]} <= {*oldest}


@pytest.mark.parametrize("name", ["ci.yml", "release.yml"])
def test_a_workflow_runs_both_ends_of_what_is_supported(name):
    (matrix,) = [
        job["strategy"]["matrix"]["include"]
        for job in yaml.safe_load(WORKFLOWS[name].read_text())["jobs"].values()
        if "strategy" in job
    ]
    pythons = [c.split()[-1] for c in PROJECT["classifiers"] if re.search(r":: 3\.\d+$", c)]
    least = PROJECT["requires-python"].removeprefix(">=")
    assert least == pythons[0]
    combinations = {(entry["python"], entry["constraints"]) for entry in matrix}
    assert combinations == {(least, ".ci/oldest.txt"), *((p, "/dev/null") for p in pythons)}
