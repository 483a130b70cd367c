"""The same seed, machine and versions give the same bits, whatever Python's hashes are."""

import hashlib
import json
import os
import subprocess
import sys
from pathlib import Path

import jax
import numpy as np
import optax
import pytest

from muon_optax import SVD, NewtonSchulz, muon

EXAMPLES = Path(__file__).parent.parent / "examples"
CASES = {
    "default": NewtonSchulz(),
    "svd": SVD(),
}
MESHES = {"one device": "", "eight devices": "data=2,fsdp=2,tensor=2"}
RUNS = [("default", "one device"), *((name, "eight devices") for name in CASES)]
LIKE = {
    "query": {"kernel": np.zeros((32, 4, 8))},
    "key": {"kernel": np.zeros((32, 4, 8))},
    "out": {"kernel": np.zeros((4, 8, 32))},
    "up": {"kernel": np.zeros((32, 64)), "bias": np.zeros(64)},
    "wte": {"embedding": np.zeros((48, 32))},
}


def trained(method, mesh):
    """Parameters and state after three steps, and the program of one."""
    from mesh import distribute, make_mesh, parameter_shardings  # of the examples

    rng = np.random.default_rng(0)
    shardings = parameter_shardings(make_mesh(mesh), LIKE)
    tx = muon(0.1, method, weight_decay=0.1, shardings=shardings if mesh else None)

    def draw():
        random = lambda x: rng.standard_normal(x.shape, np.float32)
        return jax.tree.map(lambda x, cut: distribute(random(x), cut), LIKE, shardings)

    @jax.jit
    def step(params, state, grads):
        updates, state = tx.update(grads, state, params)
        return optax.apply_updates(params, updates), state

    params = draw()
    state = jax.jit(tx.init)(params)
    program = step.lower(params, state, draw()).as_text()
    for _ in range(3):
        params, state = step(params, state, draw())
    return params, state, program


def digest(tree):
    """Of every leaf's bytes, or of a string's, in the order of the tree."""
    found = hashlib.sha256()
    for leaf in jax.tree.leaves(tree):
        found.update(leaf.encode() if isinstance(leaf, str) else np.asarray(leaf).tobytes())
    return found.hexdigest()


def digests():
    """Case → what training gives, and of which program."""
    return {
        f"{name} on {devices}": [digest(x) for x in trained(CASES[name], MESHES[devices])]
        for name, devices in RUNS
    }


def start(seed):
    """This file in a process whose strings, and so its sets, hash in another order."""
    return subprocess.Popen(
        [sys.executable, __file__],
        env=os.environ | {"PYTHONHASHSEED": str(seed)},
        stdout=subprocess.PIPE,
        text=True,
    )


@pytest.mark.slow
def test_two_processes_make_the_same_programs_and_bits():
    said = [process.communicate(timeout=240)[0] for process in [start(1), start(2)]]
    (order, ours), (other_order, theirs) = map(json.loads, said)
    assert order != other_order
    assert len(ours) == len(RUNS)
    assert ours == theirs


def test_a_digest_sees_one_bit():
    x = np.ones(5, np.float32)
    assert digest([x, "a"]) == digest([x.copy(), "a"])
    assert digest([x, "a"]) != digest([np.nextafter(x, 2), "a"]) != digest([x, "b"])


if __name__ == "__main__":
    sys.path.append(str(EXAMPLES))
    print(json.dumps([list({"up", "down", "query", "key"}), digests()]))
