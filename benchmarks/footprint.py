"""What an optimizer step costs to compile and to hold: ours beside `optax.contrib.muon`.

Per tree: lines of optimised HLO, trace and compile time, temporary memory, and the
time of a step, all taking turns. A third optimizer unrolls the steps of Newton-Schulz, which
ours scans over: the evidence for that.
"""

import statistics
import time
from dataclasses import dataclass

import jax
import jax.numpy as jnp
import optax
from jax import Array
from rich.progress import track

from benchmarks.record import provenance, save
from muon_optax import NewtonSchulz, muon
from muon_optax.dims import MuonDimensionNumbers
from muon_optax.polar.newton_schulz import apply_stage
from muon_optax.polar.normalize import normalized


@dataclass(frozen=True)
class Unrolled:
    """Jordan's five steps one after the other, with constant coefficients."""

    def polar(self, x: Array) -> Array:
        """The same polynomial as `NewtonSchulz()`."""
        tall = x.shape[-2] > x.shape[-1]
        y = normalized(x.mT if tall else x, "frobenius", 0.0)
        for stage in NewtonSchulz().schedule:
            y = apply_stage(stage, y)
        return y.mT if tall else y


def transformer(layers: int, width: int) -> dict:
    """Nine leaves a layer: four square matrices, one wide, one tall, three vectors."""
    sides = {name: (width, width) for name in ("query", "key", "value", "out")}
    sides |= {"up": (width, 4 * width), "down": (4 * width, width)}
    layer = {name: jax.ShapeDtypeStruct(shape, jnp.float32) for name, shape in sides.items()}
    layer |= {f"bias{i}": jax.ShapeDtypeStruct((width,), jnp.float32) for i in range(3)}
    return {f"layer{i}": layer for i in range(layers)}


def stack(count: int, m: int, n: int) -> dict:
    """As many separate matrices of one shape."""
    return {f"w{i}": jax.ShapeDtypeStruct((m, n), jnp.float32) for i in range(count)}


TREES = {
    "144 leaves, width 256": lambda: transformer(16, 256),
    "576 leaves, width 64": lambda: transformer(64, 64),
    "32 × (512×2048)": lambda: stack(32, 512, 2048),
}
SMOKE = {"18 leaves, width 8": lambda: transformer(2, 8)}


def optimizers(params: dict) -> dict[str, optax.GradientTransformation]:
    """The same polynomial, momentum and fallback in each."""
    dims = jax.tree.map(
        lambda x: MuonDimensionNumbers(0, 1) if len(x.shape) == 2 else None, params
    )
    return {
        "ours": muon(0.02, dims=dims),
        "optax": optax.contrib.muon(0.02, muon_weight_dimension_numbers=dims),
        "unrolled": muon(0.02, Unrolled(), dims=dims),
    }


def compile_step(tx: optax.GradientTransformation, shapes: dict):
    """The compiled update with its static costs, and the arrays to run it on."""
    state = jax.eval_shape(tx.init, shapes)
    step = jax.jit(tx.update, donate_argnums=(0, 1))
    start = time.perf_counter()
    lowered = step.trace(shapes, state, shapes).lower()
    traced = time.perf_counter()
    compiled = lowered.compile()
    compile_s = time.perf_counter() - traced
    memory = compiled.memory_analysis()
    parameters = sum(x.size * x.dtype.itemsize for x in jax.tree.leaves(shapes))
    costs = {
        "trace_s": round(traced - start, 3),
        "compile_s": round(compile_s, 3),
        "hlo_lines": len(compiled.as_text().splitlines()),
        "temp_over_parameters": round(memory.temp_size_in_bytes / parameters, 3),
    }
    return compiled, costs


def time_in_turns(compiled: dict, txs: dict, shapes: dict, runs: int) -> dict[str, list[float]]:
    """Seconds per step of each, one run of each after another."""
    leaves, treedef = jax.tree.flatten(shapes)
    keys = jax.random.split(jax.random.key(0), len(leaves))
    grads = treedef.unflatten([jax.random.normal(k, x.shape) for k, x in zip(keys, leaves)])
    states = {name: tx.init(grads) for name, tx in txs.items()}
    seconds = {name: [] for name in txs}
    for turn in range(runs + 1):
        for name, step in compiled.items():
            given = jax.block_until_ready(jax.tree.map(jnp.copy, grads))
            start = time.perf_counter()
            _, states[name] = jax.block_until_ready(step(given, states[name], grads))
            if turn:  # the first is a warm-up
                seconds[name].append(time.perf_counter() - start)
    return seconds


def main(smoke: bool = False) -> None:
    """Measure every tree; keep the results."""
    made_by = provenance()
    results = {}
    for tree, make in track((SMOKE if smoke else TREES).items(), "measuring"):
        shapes = make()
        txs = optimizers(shapes)
        compiled, costs = {}, {}
        for name, tx in txs.items():
            compiled[name], costs[name] = compile_step(tx, shapes)
        seconds = time_in_turns(compiled, txs, shapes, runs=2 if smoke else 9)
        for name, times in seconds.items():
            against = [a / b for a, b in zip(seconds["optax"], times)]
            costs[name]["step_ms_median"] = round(1000 * statistics.median(times), 2)
            costs[name]["optax_over_it"] = [
                round(q, 3) for q in (min(against), statistics.median(against), max(against))
            ]
        results[tree] = costs
    for tree, costs in results.items():
        for name, cost in costs.items():
            print(tree, name, cost)
    if not smoke:
        print(save("footprint", made_by, {"trees": results}))
