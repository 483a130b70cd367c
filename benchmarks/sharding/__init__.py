"""What moves between eight devices in an optimizer step: ours and `optax.contrib.muon`.

Per layout, read from the optimised HLO: collectives, bytes, flops; and by how much the updates
differ from those of one device. The devices are parts of this CPU, so that nothing is timed.
"""

from typing import Any

import jax
import numpy as np
from rich.progress import track

from benchmarks.hlo import collectives, count, flops
from benchmarks.record import provenance, save
from benchmarks.sharding.formula import ours
from benchmarks.sharding.layouts import METHOD, OURS, Layout, compiled, layouts, optimizers


def host_devices(number: int) -> None:
    """Make so many devices of this CPU; before JAX's first use of any."""
    jax.config.update("jax_platforms", "cpu")
    jax.config.update("jax_num_cpu_devices", number)


def measure(layout: Layout) -> dict[str, dict]:
    """Optimizer → what it moves and computes, and how far it is off one device's updates."""
    leaves, treedef = jax.tree.flatten(layout.shapes)
    keys = jax.random.split(jax.random.key(0), len(leaves))
    grads = treedef.unflatten([jax.random.normal(k, x.shape) for k, x in zip(keys, leaves)])
    step, one, found = ours(layout, METHOD), optimizers(layout, spread=False), {}
    for name, tx in optimizers(layout).items():
        args = grads, one[name].init(grads), grads
        alone, shared = compiled(layout, one[name], spread=False), compiled(layout, tx)
        expected, _ = alone(*args)
        updates, _ = shared(*jax.device_put(args, shared.input_shardings[0]))
        moved, counted = collectives(shared.as_text()), flops(shared.as_text())
        found[name] = {
            "collectives": count(moved),
            "in_loops": sum(c.times for c in moved if c.in_loop),
            "received": sum(c.received for c in moved),
            "flops": counted,
            "flops_alone": flops(alone.as_text()),
            "off": _difference(updates, expected),
        }
    formula = {"received": step.received, "flops": step.flops}
    found[OURS]["by_formula"] = formula | {"flops_of_all_branches": step.branches}
    return found


def _difference(updates: Any, expected: Any) -> float:
    """The largest of all entries, over the largest entry."""
    xs, ys = ([np.asarray(x) for x in jax.tree.leaves(t)] for t in (updates, expected))
    return float(max(abs(x - y).max() for x, y in zip(xs, ys)) / max(abs(y).max() for y in ys))


def main(smoke: bool = False) -> None:
    """Measure every layout; keep the results as they come."""
    host_devices(8)
    made_by, kept = provenance(), {}
    if smoke:
        print(measure(layouts(16)["FSDP, one matrix, long side cut"]))
        return
    for name, layout in track(layouts(256).items(), "layouts"):
        kept[name] = measure(layout)
        save("sharding", made_by, {"layouts": kept})
