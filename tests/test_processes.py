"""One training job on many devices and processes: its losses, its end, and how it goes on."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import jax
import jax.numpy as jnp
import pytest
from jax.sharding import AbstractMesh
from jax.sharding import PartitionSpec as P
from mesh import AXES, batch_sharding, make_mesh, parameter_shardings

ROOT = Path(__file__).parent.parent
FAILING = f"""
import sys, time
sys.path.append({str(ROOT / "examples")!r})
from launch import join
join(False)
import jax
if jax.process_index() == 1:
    raise ValueError("on purpose")
time.sleep(120)
"""


def start(count, devices, *command):
    many = ("examples/launch.py", count, "--devices", devices)
    return subprocess.Popen(
        [sys.executable, *map(str, (*many, *command))],
        cwd=ROOT,
        env=os.environ | {"JAX_DISABLE_MOST_OPTIMIZATIONS": "1"},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )


def finish(process):
    """What it and its errors say."""
    try:
        return process.communicate(timeout=150)
    finally:
        kill(process)


def kill(process):
    """All processes of a job at once."""
    if process.poll() is None:
        os.killpg(process.pid, signal.SIGKILL)


def test_one_that_fails_ends_the_others(tmp_path):
    script = tmp_path / "script.py"
    script.write_text(FAILING)
    begin = time.monotonic()
    job = start(2, 1, script)
    _, errors = finish(job)
    assert job.returncode == 1
    assert "process 1 of 2 failed with 1" in errors and "on purpose" in errors
    assert time.monotonic() - begin < 60  # where it would wait for the other it takes 120
    with pytest.raises(ProcessLookupError):
        os.killpg(job.pid, 0)


@pytest.mark.parametrize("given", ["data=3", "rows=1", "data", "data=1,data=1", "fsdp=0"])
def test_a_mesh_that_cannot_be_says_what_can(given):
    count = jax.device_count()
    said = f"mesh='{given}' for {count} devices; use data, fsdp, tensor.* 'data={count}'"
    with pytest.raises(ValueError, match=said):
        make_mesh(given)


def test_parameters_are_cut_by_their_role_then_along_their_largest_axis():
    mesh = AbstractMesh((2, 2, 2), AXES)
    shapes = {"query": (32, 4, 8), "out": (4, 8, 32), "up": (32, 128), "down": (128, 32)}
    params = {name: {"kernel": jnp.zeros(shape)} for name, shape in shapes.items()}
    params = {"block": params, "scale": jnp.zeros(32), "odd": jnp.zeros((3, 5))}
    specs = jax.tree.map(lambda s: s.spec, parameter_shardings(mesh, params))
    cut = {name: spec["kernel"] for name, spec in specs.pop("block").items()}
    assert cut == {
        "query": P("fsdp", "tensor", None),
        "out": P("tensor", None, "fsdp"),
        "up": P("fsdp", "tensor"),
        "down": P("tensor", "fsdp"),
    }
    assert specs == {"scale": P("fsdp"), "odd": P(None, None)}


def test_what_a_mesh_does_not_divide_is_named():
    mesh = AbstractMesh((2, 2, 2), AXES)
    with pytest.raises(ValueError, match=r"data times fsdp=4.* the batch, of 6; use a divisor"):
        batch_sharding(mesh, (6, 17))
    odd = {"block": {"query": {"kernel": jnp.zeros((32, 3, 8))}}}
    with pytest.raises(ValueError, match=r"tensor=2.* axis 1 of block.query.kernel, of 3"):
        parameter_shardings(mesh, odd)
