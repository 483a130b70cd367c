"""Training from the newest whole checkpoint to the end; it prints one JSON line a step."""

import argparse
import hashlib
import json
import resource
from functools import partial
from pathlib import Path
from typing import Any

import jax
import numpy as np
import optax
import orbax.checkpoint as ocp

from muon_optax import compat
from tests.quality.soak.model import add_fault, fault, init, loss, optimizer

COMPILED = "/jax/core/compile/backend_compile_duration"


class Counts:
    """Traces of the step, and programs that XLA compiled after the first step."""

    def __init__(self):
        self.traces = self.compiled = 0
        jax.monitoring.register_event_duration_secs_listener(self._event)

    def _event(self, name: str, *_: Any, **__: Any) -> None:
        self.compiled += name == COMPILED


def train(steps: int, every: int, manager: ocp.CheckpointManager | None) -> None:
    """Do the steps after the newest checkpoint; without a manager do all and save none."""
    tx, counts = optimizer(steps), Counts()

    @partial(jax.jit, donate_argnums=0)
    def advance(carry, step, factors):
        counts.traces += 1
        params, state = carry
        value, grads = jax.value_and_grad(loss)(params, step)
        updates, state = tx.update(add_fault(grads, factors), state, params)
        return (optax.apply_updates(params, updates), state), value

    params = init()
    carry = params, tx.init(params)
    begin = (manager and manager.latest_step()) or 0
    if manager and begin:
        target = ocp.args.StandardRestore(compat.to_checkpoint(carry))
        carry = compat.from_checkpoint(manager.restore(begin, args=target), like=carry)
    say(begins=begin, digest=digest(carry))
    for step in range(begin, steps):
        carry, value = advance(carry, np.int32(step), fault(step)[1])
        counts.compiled *= step > begin
        due = (step + 1) % every == 0
        line = {"digest": digest(carry), "resident": resident()} if due else {}
        say(step=step + 1, loss=float(value), **vars(counts), **line)
        if manager and due:
            say(saves=step + 1)
            manager.save(step + 1, args=ocp.args.StandardSave(compat.to_checkpoint(carry)))
    if manager:
        manager.close()
    say(**outcome(*carry))


def outcome(params: optax.Params, state: optax.OptState) -> dict:
    """What the optimizer skipped, and whether parameters and state are finite."""
    skipped = {
        "matrices": int(optax.tree_utils.tree_get(state, "skipped")),
        "fallback": int(optax.tree_utils.tree_get(state, "total_notfinite")),
    }
    finite = {
        name: all(bool(np.isfinite(x).all()) for x in jax.tree.leaves(jax.device_get(tree)))
        for name, tree in (("params", params), ("state", state))
    }
    return {"skipped": skipped, "finite": finite}


def digest(tree: Any) -> str:
    """A hash of the bits of all leaves."""
    found = hashlib.sha256()
    for leaf in jax.tree.leaves(tree):
        found.update(np.asarray(leaf).tobytes())
    return found.hexdigest()


def resident() -> int:
    """Resident bytes of this process, from Linux."""
    pages = Path("/proc/self/statm").read_text().split()[1]
    return int(pages) * resource.getpagesize()


def say(**line: Any) -> None:
    print(json.dumps(line), flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("steps", type=int)
    parser.add_argument("every", type=int, help="steps between two checkpoints")
    parser.add_argument("folder", type=Path, nargs="?", help="for checkpoints")
    given = parser.parse_args()
    manager = None
    if given.folder:
        options = ocp.CheckpointManagerOptions(max_to_keep=2)
        manager = ocp.CheckpointManager(given.folder.absolute(), options=options)
    train(given.steps, given.every, manager)


if __name__ == "__main__":
    main()
